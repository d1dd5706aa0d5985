#!/bin/bash
# Trains on several machines under Slurm, with one process per machine for all of its GPUs:
#
#   sbatch --nodes=4 --gpus-per-node=8 experiments/cluster/slurm.sh --dataset=horse2zebra --workdir=/shared/runs/h2z
#
# Pass the options of cyclegan_tf.train. The run directory must be on a file system that all machines can read.
#SBATCH --job-name=cyclegan
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --requeue
#SBATCH --signal=TERM@120
#SBATCH --output=%x-%j.log
#SBATCH --open-mode=append

PORT=${PORT:-12355}
export WORKERS=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | sed "s/.*/\"&:$PORT\"/" | paste -sd,)

# Slurm sends SIGTERM 120 s before the time limit and on preemption; the workers then save a checkpoint and exit.
# --kill-on-bad-exit=0: when a worker fails, the others exit by themselves and say why.
# Exit status 75 (a worker was lost), 137 (killed) or 143 (SIGTERM): requeue the job, which resumes the run.
srun --kill-on-bad-exit=0 --label bash -c '
  export TF_CONFIG="{\"cluster\": {\"worker\": [$WORKERS]}, \"task\": {\"type\": \"worker\", \"index\": $SLURM_PROCID}}"
  exec python -m cyclegan_tf.train --strategy=multi_worker "$@"
' cyclegan "$@"
status=$?
case $status in
  75 | 137 | 143) [ "${SLURM_RESTART_COUNT:-0}" -lt "${RESTARTS:-20}" ] && scontrol requeue "$SLURM_JOB_ID" ;;
esac
exit $status
