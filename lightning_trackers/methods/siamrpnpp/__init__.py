"""SiamRPN++ and its variants with focal and shrinkage loss.

The network is ``methods.siamrpn.SiamRPN`` with this room's head on a backbone of several depths; module,
labelling and tracker are SiamRPN's own.
"""

from lightning_trackers.methods.siamrpnpp.network import LayerwiseRPN

__all__ = ["LayerwiseRPN"]
