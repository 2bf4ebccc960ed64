#!/bin/sh
# Make what a page loads from the modules in web/: one script for the page, one for its workers.
#     sh runtime/minify.sh OUTPUT_FOLDER        (`make web`; needs npx and npm's registry)
# The output is in the repository, so that neither installing nor compiling needs node.
set -eu
mkdir -p "$1"
output="$(cd "$1" && pwd)"
cd "$(dirname "$0")/web"
export output

# The two names are read in consoles; the comments tell bundlers to leave node's modules alone.
# Addresses (weightsAt, ...) never leave the session, so they may have other names.
npx --yes --package=esbuild@0.28.2 --package=terser@5.51.2 -- sh -euc '
    for name in index worker; do
        script="$output/$name.mjs"
        esbuild $name.mjs --bundle --format=esm --external:./files.mjs --log-level=warning >"$script"
        terser --module --ecma 2022 --compress passes=3,sequences=false \
            --mangle "reserved=[ModelError,Session]" --mangle-props regex="/At\$/" \
            --comments "/webpackIgnore|@vite-ignore/" --output "$script" -- "$script"
    done'
sha256sum bundle.mjs index.mjs shared.mjs threads.mjs worker.mjs >"$output/SHA256SUMS"
