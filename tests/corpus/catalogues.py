"""A small catalogue: identical files with different labels, and a name that is not ASCII."""

from pathlib import Path

GAC = "IRMAS-TrainingData/gac/001__[gac][dru][cou_fol]0001__1.wav"
GEL = "IRMAS-TrainingData/gel/002__[gel][nod][cou_fol]0002__1.wav"
GEL_MORE = "IRMAS-TrainingData/gel/002__[gel][nod][cou_fol]0002__2.wav"
PIA = "IRMAS-TrainingData/pia/[pia][cla]0003__1.wav"
SONG = "IRMAS-TestingData-Part3/Part3/06 - Déjà vu, 'live' #1 [x]"
TINY_TRAINING = f"path,md5\n{GAC},aa\n{GEL},aa\n{GEL_MORE},\n{PIA},\n"
TINY_TESTING = (
    "path,md5,instruments\n"
    f'"{SONG}-1.wav",cc,gac|voi\n"{SONG}-2.wav",cc,gac\n"{SONG}-10.wav",dd,voi\n'
)


def write_catalogue(
    directory: Path, training: str = TINY_TRAINING, testing: str = TINY_TESTING
) -> Path:
    directory.mkdir(exist_ok=True)
    (directory / "training.csv").write_text(training, encoding="utf-8")
    (directory / "testing.csv").write_text(testing, encoding="utf-8")
    return directory
