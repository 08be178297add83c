# The work pool and the deployments, on the server that PREFECT_API_URL names. May be run again at any time.
set -e
prefect work-pool create fute --type process --overwrite
prefect --no-prompt deploy --all
