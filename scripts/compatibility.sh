#!/usr/bin/env bash
# Run the hub files' tests on several versions of transformers, each in an environment of its own that shares the
# PyTorch and the other packages of .venv, and load the repositories that each writes with each of the others.
#
#   scripts/compatibility.sh [WORKDIR]
set -euo pipefail
cd "$(dirname "$0")/.."
work=${1:-build/compatibility}
mkdir -p "$work"
work=$(cd "$work" && pwd)
base=$(.venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')

# name=what pip installs beside the shared packages; transformers 4 needs huggingface-hub below 1, which datasets 5 does not take
cells=(
    "4.57=transformers~=4.57.0 huggingface-hub<1 datasets>=4.0,<4.5"
    "oldest-5=transformers==5.0.0"
    "newest-5=transformers>=5,<6"
)

# What depends on transformers: the hub files, and publishing and loading them.
tests=(
    tests/models
    tests/hub/test_export.py
    tests/hub/test_remote_code.py
)
# For each of the models, not only the one that they run for by default.
slow_tests=(
    tests/hub/test_push.py::test_push_and_load
    tests/hub/test_push.py::test_the_cards_code_runs
    tests/hub/test_push.py::test_push_and_load_a_classifier
)

failed=0
report="$work/report.txt"
: > "$report"
for cell in "${cells[@]}"; do
    name=${cell%%=*}
    read -ra packages <<< "${cell#*=}"
    environment="$work/$name"
    if [ ! -e "$environment/ready" ]; then
        rm -rf "$environment"
        .venv/bin/python -m venv "$environment"
        # Its own packages come first, then those of .venv.
        echo "$base" > "$("$environment/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/shared.pth"
        "$environment/bin/pip" install --quiet --disable-pip-version-check --upgrade --upgrade-strategy only-if-needed "${packages[@]}"
        touch "$environment/ready"
    fi
    export HF_MODULES_CACHE="$work/modules-$name"
    versions=$("$environment/bin/python" -c 'import transformers, huggingface_hub as h, datasets as d, torch as t
print(f"transformers {transformers.__version__}, huggingface-hub {h.__version__}, datasets {d.__version__}, torch {t.__version__}")')
    for group in tests slow_tests; do
        declare -n selected=$group
        if [ "$group" = tests ]; then marks="not slow and not network"; else marks="not network"; fi
        if "$environment/bin/python" -m pytest -q -m "$marks" "${selected[@]}" > "$work/$name-$group.log" 2>&1; then result=passed; else result=FAILED; failed=1; fi
        echo "$name ($versions): ${group/_/ } $result: $(tail -n 1 "$work/$name-$group.log")" | tee -a "$report"
    done
    "$environment/bin/python" tests/compatibility.py write "$work/repositories-$name"
done
for reader in "${cells[@]}"; do
    name=${reader%%=*}
    export HF_MODULES_CACHE="$work/modules-$name"
    for writer in "${cells[@]}"; do
        if difference=$("$work/$name/bin/python" tests/compatibility.py read "$work/repositories-${writer%%=*}" 2> "$work/$name-reads-${writer%%=*}.log"); then
            echo "$name reads what ${writer%%=*} wrote: $difference" | tee -a "$report"
        else
            echo "$name reads what ${writer%%=*} wrote: FAILED, see $work/$name-reads-${writer%%=*}.log" | tee -a "$report"
            failed=1
        fi
    done
done
exit $failed
