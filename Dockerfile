# The two images of this repository, `docker build --target node .` and `--target operator`, by BuildKit. For several
# architectures: docker buildx build --platform linux/amd64,linux/arm64 ... hack/image reads the final stages as well and makes the
# same images where there is neither an engine nor a registry.

# By digest, so that the same source makes the same images. `go -C hack/image run ./lock "$PWD/Dockerfile"` writes the present ones. Other images for these two:
# --build-arg GO_IMAGE=... --build-arg BASE_IMAGE=...
ARG GO_IMAGE=golang:1.26-bookworm@sha256:a688600ca24f8a4d3ca77f95b0dd40704a9fc787c826660eb7ba0b641b8b175d
ARG BASE_IMAGE=gcr.io/distroless/static-debian12:nonroot@sha256:afa5c872c891853ca7fcf1f12c3edb23f7eeef36189728842dd51042ff57f7ab

# Go cross-compiles on the build machine; nothing is emulated.
FROM --platform=$BUILDPLATFORM ${GO_IMAGE} AS source
ARG TARGETOS
ARG TARGETARCH
ARG VERSION=devel
ARG COMMIT=
ENV CGO_ENABLED=0
WORKDIR /src
COPY . .

FROM source AS build-node
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
    GOOS=$TARGETOS GOARCH=$TARGETARCH go build -tags nodashboard -trimpath -buildvcs=false \
    -ldflags "-s -w -X main.version=$VERSION -X main.commit=$COMMIT" -o /out/diseq ./cmd/diseq

FROM source AS build-operator
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
    GOOS=$TARGETOS GOARCH=$TARGETARCH go build -trimpath -buildvcs=false -ldflags "-s -w -X main.version=$VERSION -X main.commit=$COMMIT" \
    -o /out/diseq-operator ./cmd/operator

FROM ${BASE_IMAGE} AS node
ARG VERSION=devel
ARG COMMIT=
LABEL org.opencontainers.image.title="diseq" \
      org.opencontainers.image.description="A node of DISEQ, a distributed message sequencer, and its tools" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.source="https://github.com/diseq/diseq" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$COMMIT"
COPY --from=build-node /out/diseq /diseq
# Numbers, because Kubernetes cannot know whether a name is root's.
USER 65532:65532
# Clients, the other nodes, metrics and probes.
EXPOSE 8080 7700 9090 9091
ENTRYPOINT ["/diseq"]

FROM ${BASE_IMAGE} AS operator
ARG VERSION=devel
ARG COMMIT=
LABEL org.opencontainers.image.title="diseq-operator" \
      org.opencontainers.image.description="The Kubernetes operator of DISEQ networks" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.source="https://github.com/diseq/diseq" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$COMMIT"
COPY --from=build-operator /out/diseq-operator /diseq-operator
USER 65532:65532
# Metrics, probes.
EXPOSE 8443 8081
ENTRYPOINT ["/diseq-operator"]
