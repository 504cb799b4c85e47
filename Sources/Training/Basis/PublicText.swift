/// Public text that comes with the program, for making a basis if a run has no text of its own.
///
/// The sentences were written for this purpose and have no owner. They are news, reviews, instructions, questions, tales and facts, so that
/// what they have in common is English prose and no subject. Text that resembles the task's makes a better basis; languages other than
/// English need their own text.
public enum PublicText {
    /// The sentences, one text each.
    public static let sentences: [String] = text.split(separator: "\n").map(String.init)

    private static let text = """
        The old bridge was closed for repairs in March, and nobody on the north bank expected it to open again before the autumn.
        I bought this kettle two years ago and it still boils a litre of water faster than anything else in the house.
        Prices for wheat rose sharply on Tuesday after reports of a late frost in the eastern provinces.
        To change the filter, switch off the pump, turn the blue cap to the left, and lift the cartridge straight out.
        She laughed so hard at the second act that the man in front of us turned round twice.
        The committee found no evidence that the payment had influenced the decision, but it asked for clearer rules.
        Honestly, the sequel is a mess: too long, too loud, and not half as clever as it believes itself to be.
        Photosynthesis turns light into chemical energy, and the oxygen that we breathe is one of its by-products.
        Could you tell me which platform the slow train to the coast leaves from?
        The team lost its third match in a row after the goalkeeper was sent off in the opening minutes.
        Great little phone, although the battery hardly lasts a day if you keep the screen bright.
        In 1871 the town had four thousand inhabitants; thirty years later it had more than sixty thousand.
        Add the flour slowly, stir until there are no lumps, and let the dough rest for an hour under a damp cloth.
        The minister said on Friday that talks with the unions would go on through the weekend.
        My grandmother kept every letter he wrote, tied with string, in a biscuit tin beneath the stairs.
        This novel begins slowly, but the last hundred pages are among the finest that I have read this year.
        Researchers followed nine hundred patients for ten years and saw no difference between the two treatments.
        Don't waste your money on the cheaper version; the hinge broke after a week and the shop would not take it back.
        The function returns the index of the first element that is larger than the given value, or minus one if there is none.
        Heavy rain is expected in the hills tonight, with strong winds along the coast and a risk of floods in the valleys.
        He opened the door a little, listened, and closed it again without a sound.
        The museum is open daily except Mondays, and children under twelve do not pay.
        What a dull evening: the actors mumbled, the music never stopped, and the ending explained everything twice.
        The company expects sales of about two billion this year, slightly more than analysts had forecast.
        A triangle whose sides are three, four and five units long has a right angle.
        The hotel room was small and clean, the staff were friendly, and breakfast was worth getting up for.
        "We have waited long enough," the mayor told reporters outside the court.
        Whales sing for hours, and a song that is new one winter may be heard across a whole ocean the next.
        Thank you for your message; I am out of the office until the ninth and will answer when I am back.
        The camera takes lovely pictures by day, but at night everything looks as if it had been painted with a broom.
        Under the new law, landlords must give three months' notice and return the deposit within fourteen days.
        The detective looked at the two cups on the table and asked who else had been there.
        Voters in the southern district will choose between six candidates, two of whom have held the office before.
        A warm, funny and surprisingly tender film about three sisters who inherit a bakery that none of them wants.
        Water boils at a lower temperature in the mountains because the air pressure is lower there.
        Sign in with your account, choose the printer in the list, and press the green button to print a test page.
        The orchestra played with great energy, though the slow movement would have gained from a little patience.
        Shares in the airline fell by nine per cent after it warned of lower profits.
        I have been using these headphones at work for a month, and the only thing I miss is a longer cable.
        The river changes its course every few decades, and old maps show villages on the wrong bank.
        There are, of course, many reasons why people move to a city, and work is only the most obvious one.
        Why does bread go stale faster in the fridge than on the shelf?
        The plot makes no sense, the jokes are older than the leading man, and I enjoyed every minute.
        Police closed the motorway for two hours after a lorry carrying oranges overturned near the tunnel.
        The vaccine was tested in three countries, and side effects were mild and rare.
        Our guide knew each path in the forest and could name the birds by their calls.
        The parcel arrived late, the box was torn, and one of the glasses was missing.
        Light from the nearest star takes more than four years to reach us.
        First decide how much you can save each month; then put that sum aside on the day you are paid.
        The actress said that she had learnt the whole part on night trains between two other plays.
        It is a decent restaurant with a long menu, moderate prices and a view of the harbour.
        The prime minister denied that there had been any agreement and called the report invented.
        A good dictionary does not tell you how to speak; it tells you how people do.
        The software update fixes the problem with the clock but makes the menus slower than before.
        Snow fell all night, and in the morning the only tracks in the yard were those of a fox.
        The bank raised its main interest rate by a quarter of a point, as had been widely expected.
        Beautifully shot and badly told, it is the kind of film that you admire and then forget.
        Each cell in the body carries the same genes, but not all of them are in use at the same time.
        He was born in a fishing village, studied law in the capital, and wrote his first play at forty.
        If the light blinks red, the battery is empty; if it stays green, the device is ready.
        The children built a castle of wet sand and defended it against the tide until supper.
        The court ruled that the contract was void because neither side had read the final page.
        I could not put this book down, and when I did I wanted to start it again.
        Farmers in the region grow olives, almonds and a small sweet melon that does not travel well.
        The study has limits: most of those who answered were students, and few of them were older than thirty.
        The tent is easy to pitch, keeps the rain out, and weighs less than my sleeping bag.
        Nobody at the meeting remembered who had proposed the rule, but all of them wanted to keep it.
        The final score was two to one, and both goals for the visitors came from corners.
        An hour of clumsy speeches and cheap effects leads to an ending that anybody could guess.
        The treaty was signed in the spring, ratified by summer, and broken before the first snow.
        Press and hold the power key for ten seconds to restart the device without losing your data.
        She speaks five languages and says that she dreams in the one she learnt last.
        The price of oil fell below sixty dollars a barrel for the first time since January.
        The coach praised the defence and said that the younger players had earned their places.
        This cream is far too oily for my skin, and the smell stays for hours.
        Volcanoes do not only destroy: their ash makes some of the richest soils on Earth.
        Are there any rooms free for the second week of August, preferably with a balcony?
        The photograph shows a crowd in the square, and if you look closely, a boy on the statue's shoulders.
        The new library is light and quiet, and on Sundays it is full of people who only came to sit.
        Rival parties accused the government of hiding the true cost of the railway.
        A witty script and a splendid cast save this comedy from its own sentimentality.
        Divide the number by two until it is odd; the number of divisions is the answer.
        The storm damaged more than a hundred houses and left the island without power for three days.
        It looks expensive and feels cheap, but for the price I cannot really complain.
        The theory explains why the sky is blue and why the setting sun is red.
        They walked home along the canal, talking about everything except what had happened.
        Tickets can be returned up to one day before the performance, less a small charge.
        The election commission will publish the final result on Thursday, after the votes from abroad are counted.
        The dog waited at the gate each evening, long after the man had stopped coming.
        The laptop is fast, silent and light, and the keyboard is the best I have ever typed on.
        Iron rusts when it meets water and air, and salt makes it happen faster.
        The director has made better films, but none in which so little happens so beautifully.
        A spokesman for the hospital said that two of the injured were in a serious condition.
        Use a sharp knife, keep your fingers curled, and let the weight of the blade do the work.
        The village has one shop, one church, two inns, and opinions about everything.
        The firm said it would close its oldest plant and move production to a site near the port.
        I waited forty minutes for cold soup and a waiter who never looked up; never again.
        In winter the lake freezes so hard that lorries drive across it.
        The poem has fourteen lines, the last two of which turn its meaning upside down.
        The agency plans to launch the satellite in May, after two failed attempts last year.
        Let x be the number of apples; then three times x, less four, is eleven, so x is five.
        The hero is a bore, the villain is a joy, and the dragon is the best actor of them all.
        The strike entered its second week with no sign that either side would give way.
        Her first album was recorded in a kitchen, and you can hear the rain on the window.
        The instructions are only in pictures, which would help if the pictures were of this machine.
        Bees find their way by the sun, even when it is hidden behind clouds.
        The debate lasted until midnight, and the vote was closer than anyone had predicted.
        Everything about this place is right: the bread, the wine, the music, and the price.
        The patient was asked to describe the pain, when it began, and what made it worse.
        An email with the details of your order has been sent to the address that you gave us.
        The castle was rebuilt after the fire in the style of a century in which it had not existed.
        The second season repeats the first with less money and more explosions.
        Unemployment fell to its lowest level in twenty years, while wages hardly rose.
        The shoes are comfortable from the first day, but the soles wear out within a summer.
        The moon keeps the same face towards us because it turns once on its axis for every orbit.
        Take two tablets with water after each meal, and do not drive if you feel tired.
        "It was the quiet that woke me," she wrote, "as if the whole street had held its breath."
        The mill has been restored and grinds corn for visitors on the first Sunday of every month.
        A thin story, stretched over two hours, and yet I have rarely seen a theatre so moved.
        The parliament rejected the bill by a wide margin, and its author resigned the same evening.
        The keyboard shortcut copies the selected cells; hold the shift key to move them instead.
        Not a single scene rings true, and the soundtrack seems to belong to some other film.
        The expedition carried food for ninety days and was gone for a hundred and forty.
        The clinic is free for children, and nobody is asked for papers.
        Good value, quick delivery, and the colour is just as it looks in the picture.
        Most of the money will be spent on schools, roads and the repair of the harbour wall.
        The melody is simple enough for a child to sing and strange enough that nobody forgets it.
        """
}
