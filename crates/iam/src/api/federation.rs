//! Pools and providers of workload identity federation. They have no proto: their messages come from the discovery
//! document, where every field is optional and states and times are text.
//!
//! What is done here is done when it is answered, so an operation is done from the start, and its name says what it
//! was about: nothing of it is stored.

use std::{collections::BTreeMap, sync::Arc};

use apis::{
    google::discovery::iam::v1::{
        self as proto, Oidc, Operation, WorkloadIdentityPool, WorkloadIdentityPoolProvider,
        projects_locations_workload_identity_pools as pools,
        projects_locations_workload_identity_pools_operations as pool_operations,
        projects_locations_workload_identity_pools_providers as providers,
        projects_locations_workload_identity_pools_providers_operations as provider_operations,
    },
    schema::Message,
};
use kernel::{
    Caller, Error, Mount, Result, grant, mask,
    paging::{Limits, Page},
    time::Micros,
};
use prost_types::{Struct, Timestamp, Value, value::Kind};

use crate::{
    Iam,
    federation::{KEPT, Life, Name, PoolRecord, ProviderRecord, Which},
};

/// Sizes of a page of pools.
const POOLS: Limits = Limits { usual: 50, most: 1000 };
/// Sizes of a page of providers.
const PROVIDERS: Limits = Limits { usual: 50, most: 100 };

pub(super) fn mount(mount: Mount<Iam>) -> Mount<Iam> {
    let mount = mount
        .unary(pools::CREATE, const { &[grant("iam.workloadIdentityPools.create", "{parent}")] }, create_pool)
        .unary(pools::GET, const { &[grant("iam.workloadIdentityPools.get", "{name}")] }, get_pool)
        .unary(pools::LIST, const { &[grant("iam.workloadIdentityPools.list", "{parent}")] }, list_pools)
        .unary(pools::PATCH, const { &[grant("iam.workloadIdentityPools.update", "{name}")] }, patch_pool)
        .unary(pools::DELETE, const { &[grant("iam.workloadIdentityPools.delete", "{name}")] }, delete_pool)
        .unary(
            pools::UNDELETE,
            const { &[grant("iam.workloadIdentityPools.undelete", "{name}")] },
            undelete_pool,
        )
        .unary(
            pool_operations::GET,
            const { &[grant("iam.workloadIdentityPools.get", "{name}")] },
            pool_operation,
        );
    mount
        .unary(
            providers::CREATE,
            const { &[grant("iam.workloadIdentityPoolProviders.create", "{parent}")] },
            create_provider,
        )
        .unary(
            providers::GET,
            const { &[grant("iam.workloadIdentityPoolProviders.get", "{name}")] },
            get_provider,
        )
        .unary(
            providers::LIST,
            const { &[grant("iam.workloadIdentityPoolProviders.list", "{parent}")] },
            list_providers,
        )
        .unary(
            providers::PATCH,
            const { &[grant("iam.workloadIdentityPoolProviders.update", "{name}")] },
            patch_provider,
        )
        .unary(
            providers::DELETE,
            const { &[grant("iam.workloadIdentityPoolProviders.delete", "{name}")] },
            delete_provider,
        )
        .unary(
            providers::UNDELETE,
            const { &[grant("iam.workloadIdentityPoolProviders.undelete", "{name}")] },
            undelete_provider,
        )
        .unary(
            provider_operations::GET,
            const { &[grant("iam.workloadIdentityPoolProviders.get", "{name}")] },
            provider_operation,
        )
}

async fn create_pool(
    iam: Arc<Iam>,
    _: Caller,
    request: proto::ProjectsLocationsWorkloadIdentityPoolsCreateRequest,
) -> Result<Operation> {
    let project = iam.location(&request.parent).await?;
    let id = request.workload_identity_pool_id.unwrap_or_default();
    let name = Name { project, pool: &id, provider: "" };
    let wanted = pool_record(&request.body.unwrap_or_default(), 0)?;
    let made = iam.create_pool(&name, wanted).await?;
    operation(&name, "create", &fields_of_pool(&name, &made))
}

async fn get_pool(
    iam: Arc<Iam>,
    _: Caller,
    request: proto::ProjectsLocationsWorkloadIdentityPoolsGetRequest,
) -> Result<WorkloadIdentityPool> {
    let name = iam.pool_named(&request.name).await?;
    Ok(shown_pool(&name, &iam.pool(&name)?.value))
}

async fn list_pools(
    iam: Arc<Iam>,
    _: Caller,
    request: proto::ProjectsLocationsWorkloadIdentityPoolsListRequest,
) -> Result<proto::ListWorkloadIdentityPoolsResponse> {
    let project = iam.location(&request.parent).await?;
    let which = which(request.show_deleted);
    let page = page(POOLS, request.page_size, request.page_token.as_deref(), &request.parent)?;
    let (found, next) = iam.pools(project, &page, which);
    let show =
        |(id, pool): &(String, PoolRecord)| shown_pool(&Name { project, pool: id, provider: "" }, pool);
    Ok(proto::ListWorkloadIdentityPoolsResponse {
        next_page_token: (!next.is_empty()).then_some(next),
        workload_identity_pools: found.iter().map(show).collect(),
    })
}

async fn patch_pool(
    iam: Arc<Iam>,
    _: Caller,
    request: proto::ProjectsLocationsWorkloadIdentityPoolsPatchRequest,
) -> Result<Operation> {
    let name = iam.pool_named(&request.name).await?;
    let message = message("google.discovery.iam.v1.WorkloadIdentityPool")?;
    let allowed = ["display_name", "description", "disabled"];
    let paths = mask::check(message, &paths(request.update_mask.as_deref()), &allowed)?;
    let patch = request.body.unwrap_or_default();
    let change = |pool: &PoolRecord| {
        let current = shown_pool(&name, pool);
        pool_record(&mask::merge(message, &current, &writable_pool(&patch), &paths)?, pool.deleted)
    };
    let changed = iam.change_pool(&name, change).await?;
    operation(&name, "update", &fields_of_pool(&name, &changed))
}

async fn delete_pool(
    iam: Arc<Iam>,
    _: Caller,
    request: proto::ProjectsLocationsWorkloadIdentityPoolsDeleteRequest,
) -> Result<Operation> {
    let name = iam.pool_named(&request.name).await?;
    let deleted = iam.switch_pool(&name, Life::Delete).await?;
    operation(&name, "delete", &fields_of_pool(&name, &deleted))
}

async fn undelete_pool(
    iam: Arc<Iam>,
    _: Caller,
    request: proto::ProjectsLocationsWorkloadIdentityPoolsUndeleteRequest,
) -> Result<Operation> {
    let name = iam.pool_named(&request.name).await?;
    let back = iam.switch_pool(&name, Life::Undelete).await?;
    operation(&name, "undelete", &fields_of_pool(&name, &back))
}

/// What a call about a pool answered, once more.
async fn pool_operation(
    iam: Arc<Iam>,
    _: Caller,
    request: proto::ProjectsLocationsWorkloadIdentityPoolsOperationsGetRequest,
) -> Result<Operation> {
    let (about, verb) = split_operation(&request.name)?;
    let name = iam.pool_named(about).await?;
    operation(&name, verb, &fields_of_pool(&name, &iam.pool(&name)?.value))
}

async fn create_provider(
    iam: Arc<Iam>,
    _: Caller,
    request: proto::ProjectsLocationsWorkloadIdentityPoolsProvidersCreateRequest,
) -> Result<Operation> {
    let pool = iam.pool_named(&request.parent).await?;
    let id = request.workload_identity_pool_provider_id.unwrap_or_default();
    let name = Name { provider: &id, ..pool };
    let wanted = provider_record(request.body.unwrap_or_default(), 0)?;
    let made = iam.create_provider(&name, wanted).await?;
    operation(&name, "create", &fields_of_provider(&name, &made))
}

async fn get_provider(
    iam: Arc<Iam>,
    _: Caller,
    request: proto::ProjectsLocationsWorkloadIdentityPoolsProvidersGetRequest,
) -> Result<WorkloadIdentityPoolProvider> {
    let name = iam.provider_named(&request.name).await?;
    Ok(shown_provider(&name, &iam.provider(&name)?.value))
}

async fn list_providers(
    iam: Arc<Iam>,
    _: Caller,
    request: proto::ProjectsLocationsWorkloadIdentityPoolsProvidersListRequest,
) -> Result<proto::ListWorkloadIdentityPoolProvidersResponse> {
    let pool = iam.pool_named(&request.parent).await?;
    let page = page(PROVIDERS, request.page_size, request.page_token.as_deref(), &request.parent)?;
    let (found, next) = iam.providers(&pool, &page, which(request.show_deleted))?;
    let show =
        |(id, provider): &(String, ProviderRecord)| shown_provider(&Name { provider: id, ..pool }, provider);
    Ok(proto::ListWorkloadIdentityPoolProvidersResponse {
        next_page_token: (!next.is_empty()).then_some(next),
        workload_identity_pool_providers: found.iter().map(show).collect(),
    })
}

async fn patch_provider(
    iam: Arc<Iam>,
    _: Caller,
    request: proto::ProjectsLocationsWorkloadIdentityPoolsProvidersPatchRequest,
) -> Result<Operation> {
    let name = iam.provider_named(&request.name).await?;
    let message = message("google.discovery.iam.v1.WorkloadIdentityPoolProvider")?;
    let allowed =
        ["display_name", "description", "disabled", "attribute_mapping", "attribute_condition", "oidc"];
    let paths = mask::check(message, &paths(request.update_mask.as_deref()), &allowed)?;
    let patch = request.body.unwrap_or_default();
    refuse_other_kinds(&patch)?;
    let change = |provider: &ProviderRecord| {
        let current = shown_provider(&name, provider);
        provider_record(mask::merge(message, &current, &writable_provider(&patch), &paths)?, provider.deleted)
    };
    let changed = iam.change_provider(&name, change).await?;
    operation(&name, "update", &fields_of_provider(&name, &changed))
}

async fn delete_provider(
    iam: Arc<Iam>,
    _: Caller,
    request: proto::ProjectsLocationsWorkloadIdentityPoolsProvidersDeleteRequest,
) -> Result<Operation> {
    let name = iam.provider_named(&request.name).await?;
    let deleted = iam.switch_provider(&name, Life::Delete).await?;
    operation(&name, "delete", &fields_of_provider(&name, &deleted))
}

async fn undelete_provider(
    iam: Arc<Iam>,
    _: Caller,
    request: proto::ProjectsLocationsWorkloadIdentityPoolsProvidersUndeleteRequest,
) -> Result<Operation> {
    let name = iam.provider_named(&request.name).await?;
    let back = iam.switch_provider(&name, Life::Undelete).await?;
    operation(&name, "undelete", &fields_of_provider(&name, &back))
}

/// What a call about a provider answered, once more.
async fn provider_operation(
    iam: Arc<Iam>,
    _: Caller,
    request: proto::ProjectsLocationsWorkloadIdentityPoolsProvidersOperationsGetRequest,
) -> Result<Operation> {
    let (about, verb) = split_operation(&request.name)?;
    let name = iam.provider_named(about).await?;
    operation(&name, verb, &fields_of_provider(&name, &iam.provider(&name)?.value))
}

impl Iam {
    /// The number of the project in `projects/P/locations/global`.
    async fn location(&self, parent: &str) -> Result<u64> {
        match kernel::names::parse(parent, ["projects", "locations"]) {
            Some([project, "global"]) => Ok(self.projects.resolve(project).await?.number),
            _ => Err(Error::bad_field("parent", "The location must be 'global'.")),
        }
    }

    async fn pool_named<'n>(&self, name: &'n str) -> Result<Name<'n>> {
        let parts = Name::split(name).filter(|(_, _, provider)| provider.is_empty());
        self.federated_name(name, parts).await
    }

    async fn provider_named<'n>(&self, name: &'n str) -> Result<Name<'n>> {
        let parts = Name::split(name).filter(|(_, _, provider)| !provider.is_empty());
        self.federated_name(name, parts).await
    }

    async fn federated_name<'n>(
        &self,
        name: &str,
        parts: Option<(&str, &'n str, &'n str)>,
    ) -> Result<Name<'n>> {
        let (project, pool, provider) =
            parts.ok_or_else(|| Error::bad_field("name", format!("Invalid resource name: {name}")))?;
        Ok(Name { project: self.projects.resolve(project).await?.number, pool, provider })
    }
}

fn message(name: &str) -> Result<Message> {
    Message::by_name(name).ok_or_else(|| Error::internal("the interface tables lack workload identity pools"))
}

fn paths(mask: Option<&str>) -> Vec<String> {
    let mask = mask.unwrap_or_default();
    mask.split(',').map(str::trim).filter(|path| !path.is_empty()).map(str::to_owned).collect()
}

fn page(limits: Limits, size: Option<i32>, token: Option<&str>, parent: &str) -> Result<Page> {
    Page::new(limits, size.unwrap_or_default(), token.unwrap_or_default(), &[parent])
}

fn which(show_deleted: Option<bool>) -> Which {
    if show_deleted == Some(true) { Which::All } else { Which::Live }
}

fn set(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

fn state(deleted: u64) -> Option<String> {
    Some(if deleted == 0 { "ACTIVE" } else { "DELETED" }.to_owned())
}

fn expiry(deleted: u64) -> Option<String> {
    (deleted != 0).then(|| Timestamp::from(Micros::seconds(deleted + KEPT)).to_string())
}

/// What callers may write of a pool.
fn writable_pool(pool: &WorkloadIdentityPool) -> WorkloadIdentityPool {
    WorkloadIdentityPool { name: None, state: None, expire_time: None, mode: None, ..pool.clone() }
}

/// What callers may write of a provider.
fn writable_provider(provider: &WorkloadIdentityPoolProvider) -> WorkloadIdentityPoolProvider {
    WorkloadIdentityPoolProvider { name: None, state: None, expire_time: None, ..provider.clone() }
}

fn pool_record(pool: &WorkloadIdentityPool, deleted: u64) -> Result<PoolRecord> {
    if pool.inline_certificate_issuance_config.is_some() || pool.inline_trust_config.is_some() {
        return Err(Error::unimplemented("Certificates of managed workload identities are not served here."));
    }
    Ok(PoolRecord {
        display_name: pool.display_name.clone().unwrap_or_default(),
        description: pool.description.clone().unwrap_or_default(),
        disabled: pool.disabled.unwrap_or_default(),
        deleted,
        mode: pool.mode.clone().unwrap_or_default(),
    })
}

fn shown_pool(name: &Name<'_>, pool: &PoolRecord) -> WorkloadIdentityPool {
    WorkloadIdentityPool {
        name: Some(name.to_string()),
        display_name: set(&pool.display_name),
        description: set(&pool.description),
        disabled: pool.disabled.then_some(true),
        state: state(pool.deleted),
        expire_time: expiry(pool.deleted),
        mode: set(&pool.mode),
        ..WorkloadIdentityPool::default()
    }
}

fn refuse_other_kinds(provider: &WorkloadIdentityPoolProvider) -> Result<()> {
    let kind = match provider {
        WorkloadIdentityPoolProvider { aws: Some(_), .. } => "AWS",
        WorkloadIdentityPoolProvider { saml: Some(_), .. } => "SAML",
        WorkloadIdentityPoolProvider { x509: Some(_), .. } => "X.509",
        _ => return Ok(()),
    };
    Err(Error::unimplemented(format!("{kind} providers are not served here; OpenID Connect providers are.")))
}

fn provider_record(provider: WorkloadIdentityPoolProvider, deleted: u64) -> Result<ProviderRecord> {
    refuse_other_kinds(&provider)?;
    let missing = "A provider must be configured: oidc is missing.";
    let oidc =
        provider.oidc.ok_or_else(|| Error::bad_field("workload_identity_pool_provider.oidc", missing))?;
    if oidc.discovery_uri.as_ref().is_some_and(|uri| !uri.is_empty()) {
        return Err(Error::unimplemented(
            "A discovery document elsewhere than at the issuer is not served here.",
        ));
    }
    Ok(ProviderRecord {
        display_name: provider.display_name.unwrap_or_default(),
        description: provider.description.unwrap_or_default(),
        disabled: provider.disabled.unwrap_or_default(),
        deleted,
        mapping: provider.attribute_mapping,
        condition: provider.attribute_condition.unwrap_or_default(),
        issuer: oidc.issuer_uri.unwrap_or_default(),
        audiences: oidc.allowed_audiences,
        jwks: oidc.jwks_json.unwrap_or_default(),
    })
}

fn shown_provider(name: &Name<'_>, provider: &ProviderRecord) -> WorkloadIdentityPoolProvider {
    WorkloadIdentityPoolProvider {
        name: Some(name.to_string()),
        display_name: set(&provider.display_name),
        description: set(&provider.description),
        disabled: provider.disabled.then_some(true),
        state: state(provider.deleted),
        expire_time: expiry(provider.deleted),
        attribute_mapping: provider.mapping.clone(),
        attribute_condition: set(&provider.condition),
        oidc: Some(Oidc {
            allowed_audiences: provider.audiences.clone(),
            issuer_uri: set(&provider.issuer),
            jwks_json: set(&provider.jwks),
            ..Oidc::default()
        }),
        ..WorkloadIdentityPoolProvider::default()
    }
}

/// The name of what an operation is about, and what was done with it.
fn split_operation(name: &str) -> Result<(&str, &str)> {
    let parts = name.rsplit_once("/operations/");
    let known = parts.filter(|(_, verb)| ["create", "update", "delete", "undelete"].contains(verb));
    known.ok_or_else(|| Error::not_found("Requested entity was not found."))
}

/// An operation that is done.
fn operation(name: &Name<'_>, verb: &str, response: &BTreeMap<String, Value>) -> Result<Operation> {
    let kind = if name.provider.is_empty() { "WorkloadIdentityPool" } else { "WorkloadIdentityPoolProvider" };
    let about = |suffix: &str| {
        ("@type".to_owned(), text(format!("type.googleapis.com/google.iam.v1.{kind}{suffix}")))
    };
    let response = response.clone().into_iter().chain([about("")]).collect();
    Ok(Operation {
        name: Some(format!("{name}/operations/{verb}")),
        done: Some(true),
        metadata: Some(Struct { fields: BTreeMap::from([about("OperationMetadata")]) }),
        response: Some(Struct { fields: response }),
        error: None,
    })
}

fn text(text: impl Into<String>) -> Value {
    Value { kind: Some(Kind::StringValue(text.into())) }
}

fn structure(fields: impl IntoIterator<Item = (String, Value)>) -> Value {
    Value { kind: Some(Kind::StructValue(Struct { fields: fields.into_iter().collect() })) }
}

/// Fields that are text, as JSON names them; empty ones are left out.
fn texts<const N: usize>(fields: [(&str, Option<String>); N]) -> BTreeMap<String, Value> {
    fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), text(value?)))).collect()
}

/// A pool as JSON shows it.
fn fields_of_pool(name: &Name<'_>, pool: &PoolRecord) -> BTreeMap<String, Value> {
    let shown = shown_pool(name, pool);
    let mut fields = texts([
        ("name", shown.name),
        ("displayName", shown.display_name),
        ("description", shown.description),
        ("state", shown.state),
        ("expireTime", shown.expire_time),
        ("mode", shown.mode),
    ]);
    if pool.disabled {
        fields.insert("disabled".into(), Value { kind: Some(Kind::BoolValue(true)) });
    }
    fields
}

/// A provider as JSON shows it.
fn fields_of_provider(name: &Name<'_>, provider: &ProviderRecord) -> BTreeMap<String, Value> {
    let shown = shown_provider(name, provider);
    let mut fields = texts([
        ("name", shown.name),
        ("displayName", shown.display_name),
        ("description", shown.description),
        ("state", shown.state),
        ("expireTime", shown.expire_time),
        ("attributeCondition", shown.attribute_condition),
    ]);
    if provider.disabled {
        fields.insert("disabled".into(), Value { kind: Some(Kind::BoolValue(true)) });
    }
    let mapping = provider.mapping.iter().map(|(key, value)| (key.clone(), text(value)));
    fields.insert("attributeMapping".into(), structure(mapping));
    let mut oidc = texts([("issuerUri", set(&provider.issuer)), ("jwksJson", set(&provider.jwks))]);
    if !provider.audiences.is_empty() {
        let values = provider.audiences.iter().map(text).collect();
        let list = Kind::ListValue(prost_types::ListValue { values });
        oidc.insert("allowedAudiences".into(), Value { kind: Some(list) });
    }
    fields.insert("oidc".into(), structure(oidc));
    fields
}
