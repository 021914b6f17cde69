"""Fault campaign: real runs of the real tools that are killed and starved.

    python -m pytest -m faults -n 2

may take an hour on two cores; with -rA it also prints what happened in each
case. All moments and choices are drawn from seeds. Environment variables:

    FAULTS_SCALE  share of the repetitions, 1.0 unless set
    FAULTS_SEED   another seed gives other moments, 0 unless set
"""
