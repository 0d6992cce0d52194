#!/bin/bash
array=$(sbatch --parsable docs/slurm/array.sh)
sbatch --dependency="afterany:$array" --wrap "dlcheck merge parts --report reports"
