import Core
import Foundation
import LanguageModel

/// Blocks of hidden states that a stop has caught between two layers, so that the next process goes on with them.
///
/// Layout, little-endian: "OBUNDWAY", UInt32 version, UInt32 number of blocks, 32 bytes key; for each block UInt32 number, UInt32 layers done
/// and the rows behind them in F32; UInt32 CRC-32C of all that.
enum UnderwayFile {
    private static let head = Array("OBUNDWAY".utf8) + bytes(1)
    private static let countBytes = 4

    /// Writes the file, or removes it if there are no blocks. A file that can't be written is left out.
    static func write(_ blocks: [PrefixBlock], key: Digest, to path: String) {
        guard !blocks.isEmpty else {
            unlink(path)
            return
        }
        var data = Data(head + bytes(blocks.count) + key.bytes)
        data.reserveCapacity(data.count + blocks.reduce(countBytes) { $0 + 2 * countBytes + $1.byteCount })
        for block in blocks {
            data += bytes(block.number) + bytes(block.layer)
            data.append(contentsOf: block.rows)
        }
        data += bytes(Int(data.withUnsafeBytes { CRC32C.checksum($0) }))
        let new = "\(path).new"
        let isWritten = FileManager.default.createFile(atPath: new, contents: data, attributes: [.posixPermissions: 0o600])
        if !isWritten || rename(new, path) != 0 { unlink(new) }
    }

    /// Returns the blocks; none if there is no such file, or if it is damaged or has another key.
    static func read(_ path: String, key: Digest, of cache: PrefixCache) -> [PrefixBlock] {
        guard case .layer(let entry) = cache.model.entry,
            let data = try? Data(contentsOf: URL(filePath: path), options: .mappedIfSafe)
        else { return [] }
        return data.withUnsafeBytes { all in
            let start = head.count + countBytes + key.bytes.count
            guard all.count >= start + countBytes, all.prefix(head.count).elementsEqual(head),
                all[head.count + countBytes..<start].elementsEqual(key.bytes),
                number(all, at: all.count - countBytes) == Int(CRC32C.checksum(UnsafeRawBufferPointer(rebasing: all.dropLast(countBytes))))
            else { return [] }
            var found: [Int: PrefixBlock] = [:]
            var place = start
            for _ in 0..<number(all, at: head.count) {
                guard place + 2 * countBytes <= all.count - countBytes else { return [] }
                let (block, layer) = (number(all, at: place), number(all, at: place + countBytes))
                place += 2 * countBytes
                guard (0..<cache.blockCount).contains(block), (1..<max(entry, 1)).contains(layer), found[block] == nil else { return [] }
                let size = PrefixBlock(block, of: cache).byteCount
                guard place + size <= all.count - countBytes else { return [] }
                found[block] = PrefixBlock(block, of: cache, layer: layer, rows: UnsafeRawBufferPointer(rebasing: all[place..<place + size]))
                place += size
            }
            return found.values.sorted { $0.number < $1.number }
        }
    }

    private static func bytes(_ value: Int) -> [UInt8] { withUnsafeBytes(of: UInt32(truncatingIfNeeded: value).littleEndian) { Array($0) } }

    private static func number(_ bytes: UnsafeRawBufferPointer, at place: Int) -> Int {
        Int(UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: place, as: UInt32.self)))
    }
}
