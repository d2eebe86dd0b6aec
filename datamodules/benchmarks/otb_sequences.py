"""Which sequences make up OTB-2013, OTB-50 and OTB-2015, and their attributes.

Source: Wu, Lim, Yang, Online Object Tracking: A Benchmark, CVPR 2013, and Object Tracking Benchmark,
TPAMI 2015: lists of the Python version of the toolkit, attribute rows of the MATLAB version.
"""

_TABLE = """
Basketball 2013/50 IV OCC DEF OPR BC
Biker 50 SV OCC MB FM OPR OV LR
Bird1 50 DEF FM OV
Bird2 - OCC DEF FM IPR OPR
BlurBody 50 SV DEF MB FM IPR
BlurCar1 - MB FM
BlurCar2 50 SV MB FM
BlurCar3 - MB FM
BlurCar4 - MB FM
BlurFace 50 MB FM IPR
BlurOwl 50 SV MB FM IPR
Board - SV MB FM OPR OV BC
Bolt 2013/50 OCC DEF IPR OPR
Bolt2 - DEF BC
Box 50 IV SV OCC MB IPR OPR OV BC LR
Boy 2013 SV MB FM IPR OPR
Car1 50 IV SV MB FM BC LR
Car2 - IV SV MB FM BC
Car24 - IV SV BC
Car4 2013/50 IV SV
CarDark 2013/50 IV BC
CarScale 2013/50 SV OCC FM IPR OPR
ClifBar 50 SV OCC MB FM IPR OV BC
Coke 2013 IV OCC FM IPR OPR BC
Couple 2013/50 SV DEF FM OPR BC
Coupon - OCC BC
Crossing 2013 SV DEF FM OPR BC
Crowds 50 IV DEF BC
Dancer - SV DEF IPR OPR
Dancer2 - DEF
David 2013/50 IV SV OCC DEF MB IPR OPR
David2 2013 IPR OPR
David3 2013 OCC DEF OPR BC
Deer 2013/50 MB FM IPR BC LR
Diving 50 SV DEF IPR
Dog - SV DEF OPR
Dog1 2013 SV IPR OPR
Doll 2013 IV SV OCC IPR OPR
DragonBaby 50 SV OCC MB FM IPR OPR OV
Dudek 2013/50 SV OCC DEF FM IPR OPR OV BC
FaceOcc1 2013 OCC
FaceOcc2 2013 IV OCC IPR OPR
Fish 2013 IV
FleetFace 2013 SV DEF MB FM IPR OPR
Football 2013/50 OCC IPR OPR BC
Football1 2013 IPR OPR BC
Freeman1 2013 SV IPR OPR
Freeman3 2013 SV IPR OPR
Freeman4 2013/50 SV OCC IPR OPR
Girl 2013/50 SV OCC IPR OPR
Girl2 - SV OCC DEF MB OPR
Gym - SV DEF IPR OPR
Human2 - IV SV MB OPR
Human3 50 SV OCC DEF OPR BC
Human4-2 50 IV SV OCC DEF
Human5 - SV OCC DEF
Human6 50 SV OCC DEF FM OPR OV
Human7 - IV SV OCC DEF MB FM
Human8 - IV SV DEF
Human9 50 IV SV DEF MB FM
Ironman 2013/50 IV SV OCC MB FM IPR OPR OV BC LR
Jogging-1 2013 OCC DEF OPR
Jogging-2 2013 OCC DEF OPR
Jump 50 SV OCC DEF MB FM IPR OPR
Jumping 2013/50 MB FM
KiteSurf - IV OCC IPR OPR
Lemming 2013 IV SV OCC FM OPR OV
Liquor 2013/50 IV SV OCC MB FM OPR OV BC
Man - IV
Matrix 2013/50 IV SV OCC FM IPR OPR BC
Mhyang 2013 IV DEF OPR BC
MotorRolling 2013/50 IV SV MB FM IPR BC LR
MountainBike 2013 IPR OPR BC
Panda 50 SV OCC DEF IPR OPR OV LR
RedTeam 50 SV OCC IPR OPR LR
Rubik - SV OCC IPR OPR
Shaking 2013/50 IV SV IPR OPR BC
Singer1 2013 IV SV OCC OPR
Singer2 2013/50 IV DEF IPR OPR BC
Skater - SV DEF IPR OPR
Skater2 - SV DEF FM IPR OPR
Skating1 2013/50 IV SV OCC DEF OPR BC
Skating2-1 50 SV OCC DEF FM OPR
Skating2-2 50 SV OCC DEF FM OPR
Skiing 2013/50 IV SV DEF IPR OPR
Soccer 2013/50 IV SV OCC MB FM IPR OPR BC
Subway 2013 OCC DEF BC
Surfer 50 SV FM IPR OPR LR
Suv 2013 OCC IPR OV
Sylvester 2013/50 IV IPR OPR
Tiger1 2013 IV OCC DEF MB FM IPR OPR
Tiger2 2013/50 IV OCC DEF MB FM IPR OPR OV
Toy - SV FM IPR OPR
Trans - IV SV OCC DEF
Trellis 2013/50 IV SV IPR OPR BC
Twinnings - SV OPR
Vase - SV FM IPR
Walking 2013/50 SV OCC DEF
Walking2 2013/50 SV OCC LR
Woman 2013/50 IV SV OCC DEF MB FM OPR
"""
# One line a sequence of OTB-2015: name, the smaller versions it is in, attributes.

_ROWS = [line.split(maxsplit=2) for line in _TABLE.strip().splitlines()]

VERSIONS: dict[str, tuple[str, ...]] = {
    "2013": tuple(name for name, smaller, _ in _ROWS if "2013" in smaller.split("/")),
    "50": tuple(name for name, smaller, _ in _ROWS if "50" in smaller.split("/")),
    "2015": tuple(name for name, _, _ in _ROWS),
}
"""Names of the 51, 50 and 100 sequences; OTB-50 is no subset of OTB-2013."""

ATTRIBUTES: dict[str, frozenset[str]] = {name: frozenset(codes.split()) for name, _, codes in _ROWS}
"""Attributes by sequence as the benchmark's lists give them."""

MATLAB_DIFFERENCES: dict[str, frozenset[str]] = {
    name: frozenset(codes.split())
    for name, codes in {
        "Box": "LR",
        "Car1": "MB FM",
        "Car2": "SV MB FM",
        "Coke": "BC",
        "Crossing": "FM OPR",
        "Deer": "LR",
        "Freeman3": "LR",
        "Freeman4": "LR",
        "Ironman": "LR",
        "Jump": "FM",
        "MotorRolling": "LR",
        "Skiing": "LR",
        "Walking": "LR",
        "Walking2": "LR",
    }.items()
}
"""Attributes that one of both has: the lists above, or ``anno/att`` of the MATLAB version."""
