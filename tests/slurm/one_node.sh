#!/bin/bash
# A Slurm of one node, started for this script alone, trains Table 3 at toy size: with a submitter that is killed, a run
# that is preempted, one that runs out of time, one that fails and one that is cancelled. Needs Debian's slurm-wlm and
# munge, and a Python with carlib[cluster]; where they are missing or do not start it says why and ends with 0.
#
#     tests/slurm/one_node.sh [python]
set -u
PYTHON=$(command -v "${1:-python3}")
CHECKOUT=$(cd "$(dirname "$0")/../.." && pwd)
export PATH=$PATH:/usr/sbin OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1 CUDA_VISIBLE_DEVICES=
export PYTHONPATH=$CHECKOUT${PYTHONPATH:+:$PYTHONPATH}

skip() { echo "SKIPPED: $*"; exit 0; }
for program in munged slurmctld slurmd sbatch srun squeue; do
    command -v $program > /dev/null || skip "$program is not installed (Debian: slurm-wlm, munge)"
done
"$PYTHON" -c "import carlib, submitit" 2> /dev/null || skip "$PYTHON lacks carlib[cluster]"

FOLDER=$(mktemp -d) && chmod 755 "$FOLDER"
PIDS=()
finish() {
    code=$?
    scancel --quiet --user="$(id -un)" 2> /dev/null
    for _ in $(seq 120); do [ "$(squeue -h 2> /dev/null)" ] || break; sleep 0.5; done
    [ $code = 0 ] || { tail -n 15 "$FOLDER"/*.log "$FOLDER/home/results/smoke/jobs"/*/*_log.err; } 2> /dev/null
    for pid in "${PIDS[@]}"; do kill "$pid" 2> /dev/null; done
    wait
    rm -rf "$FOLDER"
    exit $code
}

# ---- Slurm ----------------------------------------------------------------------------------------------------------
export SLURM_CONF=$FOLDER/slurm.conf
HOST=$(hostname -s)
mkdir "$FOLDER"/{state,spool,munge} && chmod 700 "$FOLDER"/munge
head -c 1024 /dev/urandom > "$FOLDER"/munge/key && chmod 400 "$FOLDER"/munge/key
# Two processors are promised whatever the machine has; a requeued job waits cred_expire seconds before its next start.
cat > "$SLURM_CONF" <<END
ClusterName=one
SlurmctldHost=$HOST(127.0.0.1)
SlurmctldPort=$((20000 + $$ % 20000))
SlurmdPort=$((40001 + $$ % 20000))
SlurmUser=$(id -un)
SlurmdUser=$(id -un)
AuthType=auth/munge
AuthInfo=socket=$FOLDER/munge.socket,cred_expire=5
StateSaveLocation=$FOLDER/state
SlurmdSpoolDir=$FOLDER/spool
SlurmctldPidFile=$FOLDER/slurmctld.pid
SlurmdPidFile=$FOLDER/slurmd.pid
SlurmctldLogFile=$FOLDER/slurmctld.log
SlurmdLogFile=$FOLDER/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
ReturnToService=2
KillWait=5
SchedulerParameters=sched_interval=5,batch_sched_delay=0
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
NodeName=$HOST NodeAddr=127.0.0.1 CPUs=2 State=UNKNOWN
PartitionName=low Nodes=$HOST Default=YES MaxTime=INFINITE PriorityTier=1
PartitionName=high Nodes=$HOST MaxTime=INFINITE PriorityTier=2 PreemptMode=OFF
END
trap finish EXIT
munged --foreground --force --key-file="$FOLDER"/munge/key --socket="$FOLDER"/munge.socket \
    --pid-file="$FOLDER"/munged.pid --log-file="$FOLDER"/munged.log --seed-file="$FOLDER"/munge/seed \
    > "$FOLDER"/munged.out 2>&1 & PIDS+=($!)
for _ in $(seq 50); do [ -S "$FOLDER"/munge.socket ] && break; sleep 0.2; done
[ -S "$FOLDER"/munge.socket ] || skip "munged does not start: $(tail -n 1 "$FOLDER"/munged.out)"
slurmctld -D > "$FOLDER"/slurmctld.out 2>&1 & PIDS+=($!)
slurmd -D > "$FOLDER"/slurmd.out 2>&1 & PIDS+=($!)
for _ in $(seq 60); do [ "$(sinfo -h -p low -o %t 2> /dev/null)" = idle ] && break; sleep 0.5; done
[ "$(sinfo -h -p low -o %t 2> /dev/null)" = idle ] || skip "Slurm does not start: $(tail -qn 1 "$FOLDER"/slurm*.log)"
echo "== $(sinfo --version) runs: $(sinfo -h -o '%P %t %C')"

# ---- a project at toy size ------------------------------------------------------------------------------------------
export CARLIB_HOME=$FOLDER/home
mkdir "$CARLIB_HOME" && cd "$CARLIB_HOME"
ln -s "$CHECKOUT"/data data
params() {  # params "python that changes p": params.yaml of this project
    "$PYTHON" - "$CHECKOUT"/params.yaml <<END
import sys, yaml
p = yaml.safe_load(open("params.yaml" if __import__("os").path.exists("params.yaml") else sys.argv[1]))
runs = p["runs"]
$1
yaml.safe_dump(p, open("params.yaml", "w"), sort_keys=False)
END
}
params '
p["profiles"]["smoke"]["train"] |= {"steps": 4, "validate_every": 1, "patch": {2: 16, 4: 16}, "validation_crop": 32,
                                    "validation_images": 1}
runs["car-edsr-x2-no-tv"]["smoke"] = {"warm_start": "car-edsr-x2"}
runs["car-edsr-x4"]["smoke"] = {"lr": 1.0e+30, "clip": 0.0, "schedule": "constant"}
runs["car-edsr-x4-no-tv"]["smoke"] = {"warm_start": "car-edsr-x4"}
runs["car-edsr-x4-no-offset"]["smoke"] = {"steps": 240, "validate_every": 6}
'
printf 'slurm:\n  partition: low\n  time: 30\n  cpus-per-task: 1\n  setup:\n  - echo "on $(hostname)"\n' > cluster.yaml
carlib=("$PYTHON" -m carlib)
submit=("${carlib[@]}" train --all --only table3 --profile smoke --executor slurm --device cpu)
submitted() { ls results/smoke/jobs/*/*_submitted.pkl 2> /dev/null | wc -l; }
log() { cat results/smoke/jobs/"$1"/*_log.{err,out} 2> /dev/null; }
job() { "$PYTHON" -c "import json; print(json.load(open('results/smoke/jobs/$1/job.json'))['job'])"; }
fail() { echo "FAILED: $*"; exit 1; }
until_true() {  # until_true seconds command: wait for it
    local end=$((SECONDS + $1)); shift
    until "$@" > /dev/null 2>&1; do [ $SECONDS -lt $end ] || fail "waited in vain for: $*"; sleep 1; done
}
steps() { tail -n 1 results/smoke/runs/"$1"/log.csv | cut -d, -f1; }
beyond() { [ "$(steps "$1")" -gt "$2" ]; }
state() { squeue -h -j "$1" -o %T 2> /dev/null; }
running() { [ "$(state "$1")" = RUNNING ]; }

echo "== a submitter is killed as soon as all jobs are submitted"
"${submit[@]}" > submitter.txt 2> /dev/null & pid=$!
until_true 900 eval '[ $(submitted) = 8 ] && squeue -h -t RUNNING | grep -q .'
{ kill -9 $pid; wait $pid; } 2> /dev/null
[ $? = 137 ] || fail "the submitter was not killed"
cat submitter.txt
squeue -o '%i %j %T %r %E'

echo "== a second submission submits nothing"
"${submit[@]}" --no-wait || fail "exit code $?"
[ "$(submitted)" = 8 ] || fail "$(submitted) jobs were submitted for 8 runs"

echo "== what is preempted goes on"
long=$(job car-edsr-x4-no-offset)
until_true 2400 beyond car-edsr-x4-no-offset 20
sbatch --parsable -p high -c 2 --wrap 'sleep 1' -o /dev/null
until_true 60 eval '! running '"$long"
before=$(steps car-edsr-x4-no-offset)
echo "preempted after step $before: $(squeue -h -j "$long" -o '%T %r')"
until_true 900 running "$long"
until_true 900 beyond car-edsr-x4-no-offset $((before + 5))

echo "== what runs out of time (its signal) is queued again by submitit, and goes on"
scancel --signal=USR2 "$long"
until_true 60 eval '! running '"$long"
before=$(steps car-edsr-x4-no-offset)
until_true 900 running "$long"
until_true 900 beyond car-edsr-x4-no-offset $((before + 5))
log car-edsr-x4-no-offset | grep -E 'stopped by|Caught|Requeued|Exiting'
"${carlib[@]}" experiments --profile smoke | grep -E '^run|x4-no-offset |queued|running|failed' | cut -c 1-160

echo "== what is cancelled is gone, what failed says why; the others end without anybody waiting"
scancel "$long"
until_true 2400 eval '[ -z "$(squeue -h)" ]'
"${carlib[@]}" experiments --profile smoke | grep -E '^run|car-edsr-x' | cut -c 1-160
[ "$(ls results/smoke/runs/*/weights.safetensors | wc -l)" -ge 5 ] || fail "runs did not end"

echo "== a recipe is corrected and the rest submitted again; this submitter waits"
params '
runs["car-edsr-x4"]["smoke"] = {}
runs["car-edsr-x4-no-offset"]["smoke"] = {"steps": 240, "validate_every": 6}
'
"${submit[@]}" --renew 2> bar.txt || fail "exit code $?: $(tail -n 3 bar.txt)"
tr '\r' '\n' < bar.txt | tail -n 1
[ "$(submitted)" = 11 ] || fail "$(submitted) jobs were submitted, not 8 and 3 again"
echo "== finished runs are skipped"
"${submit[@]}" 2> /dev/null || fail "exit code $?"
[ "$(submitted)" = 11 ] || fail "a finished run was submitted"

if "$PYTHON" -c "import papermill" 2> /dev/null; then
    echo "== papermill submits what is missing, from a job itself, waits, and measures"
    rm -r results/smoke/runs/car-edsr-x2-free
    cat > table3.sbatch <<END
#!/bin/bash
#SBATCH --job-name=table3 --partition=low --time=60 --cpus-per-task=1 --output=table3.log --error=table3.log
"$PYTHON" -m papermill "$CHECKOUT"/notebooks/03_ablation.ipynb out.ipynb --no-progress-bar \
    -p profile smoke -p scale 2 -p executor slurm
END
    sbatch --wait --parsable table3.sbatch || fail "exit code $?: $(tail -n 20 table3.log)"
    [ "$(submitted)" = 12 ] || fail "$(submitted) jobs were submitted, not one more"
    head -n 3 results/smoke/tables/table3_x2.csv
fi
echo "== one run by hand, as two processes of torchrun"
cat > one.sbatch <<END
#!/bin/bash
#SBATCH --job-name=by-hand --partition=low --time=30 --cpus-per-task=2 --output=one.log --open-mode=append --requeue
srun --cpus-per-task=2 "$PYTHON" -m torch.distributed.run --standalone --nproc-per-node=2 --no-python \
    ${PYTHON} -m carlib train car-edsr-x2-l1 --profile smoke --device cpu
END
sbatch --wait --parsable one.sbatch || fail "exit code $?: $(tail -n 20 one.log)"
[ "$(steps car-edsr-x2-l1)" = 4 ] || fail "car-edsr-x2-l1 did not end"
[ "$(grep -c weights.safetensors one.log)" = 1 ] || fail "not one process, but all or none told the path"
echo "== all is well"
