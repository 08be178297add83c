# The work pool and the deployments, on the server that PREFECT_API_URL names; called in the repository's folder. May be
# run again at any time: pauses, limits and schedules that were switched off meanwhile stay so.
set -e
export PWD  # which the deployments take as the folder in which flows run
# Made only where it is missing: made anew, it would lose its pause and its limit.
prefect work-pool inspect fute >/dev/null 2>&1 || prefect work-pool create fute --type process
deployments=prefect.yaml
if [ -f studies/prefect.yaml ]; then deployments=studies/prefect.yaml; fi
echo "deployments of $deployments"
prefect --no-prompt deploy --all --prefect-file "$deployments"
