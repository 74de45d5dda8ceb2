//! Which interfaces haar knows, and which published packages they are read from.
//!
//! A product is added by one line in [`PRODUCTS`] and `cargo xtask apis`.

/// A package of a public registry, pinned.
pub(crate) struct Pin {
    /// Its name there.
    pub(crate) name: &'static str,
    /// The one version that is read.
    pub(crate) version: &'static str,
    /// What the downloaded file must hash to.
    pub(crate) sha256: &'static str,
}

/// Google's proto files, an npm package.
pub(crate) const PROTOS: Pin = Pin {
    name: "google-proto-files",
    version: "6.0.1",
    sha256: "711763f77ea15bbc7436aac53db013b421d2c7b86ae27f4013723970ce54a96e",
};

/// Google's discovery documents, inside a package of PyPI's.
pub(crate) const DOCUMENTS: Pin = Pin {
    name: "google-api-python-client",
    version: "2.202.0",
    sha256: "aaa90064c9bb642ff1d065b22ca8958a2cb6e345909cefe70d0e5452fc50e08b",
};

/// Where a product's interface is published.
pub(crate) enum Source {
    /// A directory of proto files.
    Protos(&'static str),
    /// A discovery document, and which of its resources: all where none is named.
    Discovery(&'static str, &'static [&'static str]),
}

/// One interface.
pub(crate) struct Product {
    /// The table's file name, without the ending.
    pub(crate) table: &'static str,
    /// Where it comes from.
    pub(crate) source: Source,
}

const fn protos(table: &'static str, directory: &'static str) -> Product {
    Product { table, source: Source::Protos(directory) }
}

const fn discovery(table: &'static str, file: &'static str, only: &'static [&'static str]) -> Product {
    Product { table, source: Source::Discovery(file, only) }
}

/// The resources of the IAM document that no proto has.
const IDENTITY_POOLS: &[&str] = &[
    "projects.locations.workloadIdentityPools",
    "projects.locations.workloadIdentityPools.operations",
    "projects.locations.workloadIdentityPools.providers",
    "projects.locations.workloadIdentityPools.providers.keys",
    "projects.locations.workloadIdentityPools.providers.keys.operations",
    "projects.locations.workloadIdentityPools.providers.operations",
];

/// What every product may use: these files, and whatever else products import, are the table `common`.
pub(crate) const COMMON: &[&str] = &[
    "google/api/distribution.proto",
    "google/api/httpbody.proto",
    "google/api/metric.proto",
    "google/api/monitored_resource.proto",
    "google/api/resource.proto",
    "google/cloud/audit/audit_log.proto",
    "google/cloud/location/locations.proto",
    "google/iam/v1/iam_policy.proto",
    "google/iam/v1/options.proto",
    "google/iam/v1/policy.proto",
    "google/logging/type/http_request.proto",
    "google/logging/type/log_severity.proto",
    "google/longrunning/operations.proto",
    "google/rpc/code.proto",
    "google/rpc/error_details.proto",
    "google/rpc/status.proto",
    "google/type/expr.proto",
];

/// The interfaces, each a table of its own.
pub(crate) const PRODUCTS: &[Product] = &[
    protos("artifactregistry-v1", "google/devtools/artifactregistry/v1"),
    protos("iam-admin-v1", "google/iam/admin/v1"),
    protos("iam-credentials-v1", "google/iam/credentials/v1"),
    protos("logging-v2", "google/logging/v2"),
    protos("orgpolicy-v2", "google/cloud/orgpolicy/v2"),
    protos("policytroubleshooter-iam-v3", "google/cloud/policytroubleshooter/iam/v3"),
    protos("resourcemanager-v3", "google/cloud/resourcemanager/v3"),
    protos("run-v2", "google/cloud/run/v2"),
    protos("secretmanager-v1", "google/cloud/secretmanager/v1"),
    protos("serviceusage-v1", "google/api/serviceusage/v1"),
    protos("sql-v1", "google/cloud/sql/v1"),
    protos("sql-v1beta4", "google/cloud/sql/v1beta4"),
    discovery("discovery-cloudidentity-v1", "cloudidentity.v1.json", &["groups", "groups.memberships"]),
    discovery("discovery-cloudresourcemanager-v1", "cloudresourcemanager.v1.json", &[]),
    discovery("discovery-cloudresourcemanager-v2", "cloudresourcemanager.v2.json", &["folders"]),
    discovery("discovery-iam-v1", "iam.v1.json", IDENTITY_POOLS),
    discovery("discovery-oauth2-v2", "oauth2.v2.json", &[]),
    discovery("discovery-run-v1", "run.v1.json", &[]),
    discovery("discovery-storage-v1", "storage.v1.json", &[]),
    discovery("discovery-sts-v1", "sts.v1.json", &["v1"]),
];
