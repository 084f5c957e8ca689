#!/bin/sh
# A job: it does its work, says how it went and ends; its exit code is the job's.
#
#   nex devrun examples/jobs/report.sh --lifecycle job
set -eu

echo "report for $(uname -sm), process $$"
echo "working folder: $(pwd)"
echo "NATS: ${NATS_URL:-not given}"
for number in 1 2 3; do
  echo "step $number of 3"
done
echo "nothing unusual, which is worth a line on standard error" >&2
