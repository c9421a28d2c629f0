#!/usr/bin/env bash
# generate-api.sh: from the types in api/, write their deep copies, their apply configurations and
# the CRD; from the RBAC markers in controllers/, the operator's role. TOOLS_BIN holds
# controller-gen (make builds it there).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

bin=${TOOLS_BIN:?set TOOLS_BIN, or run: make generate-api}
types=./api/v1alpha1

# A type that is gone must not leave its files behind.
rm -rf "$types/applyconfiguration" config/crd/bases
"$bin/controller-gen" object crd applyconfiguration paths="$types" output:crd:artifacts:config=config/crd/bases
"$bin/controller-gen" rbac:roleName=diseq-operator paths=./controllers output:rbac:artifacts:config=config/rbac
echo "generated from $types and ./controllers"
