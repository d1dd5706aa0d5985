#!/bin/bash
# Trains on several machines under Slurm, one process a machine with all of its GPUs:
#
#   sbatch --nodes=4 --gpus-per-node=8 experiments/cluster/slurm.sh --dataset=horse2zebra --workdir=/shared/runs/h2z
#
# The arguments are those of cyclegan_tf.train. The run directory must be on a file system that all machines read.
#SBATCH --job-name=cyclegan
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --requeue
#SBATCH --signal=TERM@120
#SBATCH --output=%x-%j.log
#SBATCH --open-mode=append

PORT=${PORT:-12355}
export WORKERS=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | sed "s/.*/\"&:$PORT\"/" | paste -sd,)

# Each task names itself. SIGTERM, which Slurm sends 120 s before the limit and when it preempts, makes all workers save.
# --kill-on-bad-exit=0: a worker that fails makes the others end by themselves, and say why.
# status: 143 (asked to stop) and 75 (a worker was lost) mean that the job has to go on.
srun --kill-on-bad-exit=0 --label bash -c '
  export TF_CONFIG="{\"cluster\": {\"worker\": [$WORKERS]}, \"task\": {\"type\": \"worker\", \"index\": $SLURM_PROCID}}"
  exec python -m cyclegan_tf.train --strategy=multi_worker "$@"
' cyclegan "$@"
status=$?
case $status in
  75 | 137 | 143) [ "${SLURM_RESTART_COUNT:-0}" -lt "${RESTARTS:-20}" ] && scontrol requeue "$SLURM_JOB_ID" ;;
esac
exit $status
