"""Somebody else's results under every protocol, side by side.

python evaluate.py RESULTS ROOT SET [SPLIT_BY] [SPLIT]
"""

import sys

import saymask


def main(results, root, name, split_by=None, split="val"):
    dataset = saymask.datasets.open(root, name, split_by=split_by, split=split)
    scores = saymask.evaluate(dataset, results)
    print(f"{scores['results']}: {scores['form']}; {scores['expressions']} expressions, {scores['missing']} without a result")
    for protocol, report in scores["protocols"].items():
        print(f"{protocol:12} oIoU {report['oiou']:.2%}  mIoU {report['miou']:.2%}")
    for protocol, why in scores["refused"].items():
        print(f"{protocol:12} no figures: {why}")


if __name__ == "__main__":
    if not 4 <= len(sys.argv) <= 6:
        sys.exit(__doc__)
    main(*sys.argv[1:])
