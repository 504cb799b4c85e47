"""Writes privacy.json: what a published accountant says about compositions of Gaussian mechanisms (pip install dp-accounting).

epsilon is that of its Rényi accountant on a dense grid of orders; tight is that of its accountant by privacy loss distributions, which is no
more than epsilon and which no sound accountant can fall below by more than its grid."""

import json
from pathlib import Path

import numpy
from dp_accounting import GaussianDpEvent, SelfComposedDpEvent
from dp_accounting.pld import PLDAccountant
from dp_accounting.rdp import RdpAccountant

ORDERS = list(1 + numpy.exp(numpy.linspace(numpy.log(0.011), numpy.log(5000), 20000)))
cases = []
for noise, releases, delta in [
    (0.5, 1, 1e-5), (1, 1, 1e-5), (1, 1, 0.002), (2, 10, 1e-6), (4.2, 64, 0.002), (12, 64, 0.002), (4, 64, 1e-5), (30, 300, 1e-5),
    (100, 10, 1e-4), (100, 10000, 1e-6), (0.7, 3, 1e-3), (50, 64, 1e-9), (6, 300, 0.01),
]:
    event = SelfComposedDpEvent(GaussianDpEvent(noise), releases)
    rdp = RdpAccountant(ORDERS).compose(event)
    pld = PLDAccountant(value_discretization_interval=1e-4).compose(event)
    cases.append({"noise": noise, "releases": releases, "delta": delta, "epsilon": float(rdp.get_epsilon(delta)), "tight": float(pld.get_epsilon(delta))})
    print(cases[-1])
Path(__file__).with_name("privacy.json").write_text(json.dumps(cases, indent=1) + "\n")
