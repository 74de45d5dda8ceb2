//! The methods of `google.cloud.secretmanager.v1.SecretManagerService`: validate, call, answer.
//!
//! What a method requires stands beside it; the gateway asks for it before the method runs.

use std::sync::Arc;

use apis::google::{
    cloud::secretmanager::v1::{self as proto, secret_manager_service as rpc},
    iam::v1::{
        GetIamPolicyRequest, Policy, SetIamPolicyRequest, TestIamPermissionsRequest,
        TestIamPermissionsResponse,
    },
};
use bytes::Bytes;
use kernel::{BoxFuture, Caller, Error, Method, Mount, Resource, Result, grant, ports};

use crate::{
    SERVICE,
    engine::{Change, Query, Secrets},
    names::{self, SecretPath},
    rules::Field,
};

mod convert;
mod here;
mod locations;

/// The methods that Secret Manager serves.
pub fn methods(secrets: Arc<Secrets>) -> Vec<Method> {
    Mount::new(secrets)
        .unary(rpc::LIST_SECRETS, const { &[grant("secretmanager.secrets.list", "{parent}")] }, list_secrets)
        .unary(
            rpc::CREATE_SECRET,
            const { &[grant("secretmanager.secrets.create", "{parent}")] },
            create_secret,
        )
        .unary(rpc::GET_SECRET, const { &[grant("secretmanager.secrets.get", "{name}")] }, get_secret)
        .unary(
            rpc::UPDATE_SECRET,
            const { &[grant("secretmanager.secrets.update", "{secret.name}")] },
            update_secret,
        )
        .unary(
            rpc::DELETE_SECRET,
            const { &[grant("secretmanager.secrets.delete", "{name}")] },
            delete_secret,
        )
        .unary(
            rpc::ADD_SECRET_VERSION,
            const { &[grant("secretmanager.versions.add", "{parent}")] },
            add_version,
        )
        .unary(
            rpc::LIST_SECRET_VERSIONS,
            const { &[grant("secretmanager.versions.list", "{parent}")] },
            list_versions,
        )
        .unary(
            rpc::GET_SECRET_VERSION,
            const { &[grant("secretmanager.versions.get", "{name}")] },
            get_version,
        )
        .unary(
            rpc::ACCESS_SECRET_VERSION,
            const { &[grant("secretmanager.versions.access", "{name}")] },
            access,
        )
        .unary(
            rpc::ENABLE_SECRET_VERSION,
            const { &[grant("secretmanager.versions.enable", "{name}")] },
            enable,
        )
        .unary(
            rpc::DISABLE_SECRET_VERSION,
            const { &[grant("secretmanager.versions.disable", "{name}")] },
            disable,
        )
        .unary(
            rpc::DESTROY_SECRET_VERSION,
            const { &[grant("secretmanager.versions.destroy", "{name}")] },
            destroy,
        )
        .unary(
            rpc::GET_IAM_POLICY,
            const { &[grant("secretmanager.secrets.getIamPolicy", "{resource}")] },
            get_policy,
        )
        .unary(
            rpc::SET_IAM_POLICY,
            const { &[grant("secretmanager.secrets.setIamPolicy", "{resource}")] },
            set_policy,
        )
        .unary(
            locations::LIST_LOCATIONS,
            const { &[grant("secretmanager.locations.list", "{name}")] },
            locations::list,
        )
        .unary(
            locations::GET_LOCATION,
            const { &[grant("secretmanager.locations.get", "{name}")] },
            locations::get,
        )
        // Whoever asks what they may do may ask.
        .unary(rpc::TEST_IAM_PERMISSIONS, &[], test_permissions)
        .done()
}

async fn list_secrets(
    secrets: Arc<Secrets>,
    caller: Caller,
    request: proto::ListSecretsRequest,
) -> Result<proto::ListSecretsResponse> {
    let place = here::place(&caller, &request.parent)?;
    let project = secrets.projects().find(place.project).await?;
    let proto::ListSecretsRequest { parent, page_size, page_token, filter } = &request;
    let page = secrets.list_secrets(
        &project,
        place,
        &Query { parent, page_size: *page_size, page_token, filter },
    )?;
    Ok(proto::ListSecretsResponse {
        secrets: page.items.iter().map(convert::secret).collect(),
        next_page_token: page.next_page_token,
        total_size: total(page.total),
    })
}

async fn create_secret(
    secrets: Arc<Secrets>,
    caller: Caller,
    request: proto::CreateSecretRequest,
) -> Result<proto::Secret> {
    let place = here::place(&caller, &request.parent)?;
    names::check_secret_id(&request.secret_id)?;
    let Some(secret) = &request.secret else { return Err(missing("secret", "Secret must be provided.")) };
    let mut settings = convert::settings(secret, place.location, secrets.now())?;
    settings.replicas = convert::replicas(secret, place.location)?;
    let project = secrets.projects().find(place.project).await?;
    let path = SecretPath { place, secret: &request.secret_id };
    let created = secrets.create(&project, &path, settings).await?;
    Ok(convert::secret(&created))
}

async fn get_secret(
    secrets: Arc<Secrets>,
    caller: Caller,
    request: proto::GetSecretRequest,
) -> Result<proto::Secret> {
    let found = secrets.secret(&here::secret(&caller, &request.name)?).await?;
    Ok(convert::secret(&found))
}

async fn update_secret(
    secrets: Arc<Secrets>,
    caller: Caller,
    request: proto::UpdateSecretRequest,
) -> Result<proto::Secret> {
    let Some(secret) = &request.secret else { return Err(missing("secret", "Secret must be provided.")) };
    let path = here::secret(&caller, &secret.name)?;
    let location = path.place.location;
    let fields = convert::fields(request.update_mask.as_ref(), location)?;
    let mut settings = convert::settings(secret, location, secrets.now())?;
    if fields.contains(&Field::Replication) {
        settings.replicas = convert::replicas(secret, location)?;
    }
    let updated = secrets.update(&path, &secret.etag, &fields, &settings).await?;
    Ok(convert::secret(&updated))
}

async fn delete_secret(
    secrets: Arc<Secrets>,
    caller: Caller,
    request: proto::DeleteSecretRequest,
) -> Result<()> {
    secrets.delete(&here::secret(&caller, &request.name)?, &request.etag).await
}

async fn add_version(
    secrets: Arc<Secrets>,
    caller: Caller,
    request: proto::AddSecretVersionRequest,
) -> Result<proto::SecretVersion> {
    let path = here::secret(&caller, &request.parent)?;
    let Some(payload) = &request.payload else {
        return Err(missing("payload", "Field [payload] is required."));
    };
    let added = secrets.add_version(&path, &payload.data, payload.data_crc32c).await?;
    Ok(convert::version(&added, secrets.now()))
}

async fn list_versions(
    secrets: Arc<Secrets>,
    caller: Caller,
    request: proto::ListSecretVersionsRequest,
) -> Result<proto::ListSecretVersionsResponse> {
    let path = here::secret(&caller, &request.parent)?;
    let proto::ListSecretVersionsRequest { parent, page_size, page_token, filter } = &request;
    let page =
        secrets.list_versions(&path, &Query { parent, page_size: *page_size, page_token, filter }).await?;
    Ok(proto::ListSecretVersionsResponse {
        versions: page.items.iter().map(|version| convert::version(version, secrets.now())).collect(),
        next_page_token: page.next_page_token,
        total_size: total(page.total),
    })
}

async fn get_version(
    secrets: Arc<Secrets>,
    caller: Caller,
    request: proto::GetSecretVersionRequest,
) -> Result<proto::SecretVersion> {
    let found = secrets.version(&here::version(&caller, &request.name)?).await?;
    Ok(convert::version(&found, secrets.now()))
}

async fn access(
    secrets: Arc<Secrets>,
    caller: Caller,
    request: proto::AccessSecretVersionRequest,
) -> Result<proto::AccessSecretVersionResponse> {
    let accessed = secrets.access(&here::version(&caller, &request.name)?).await?;
    let data_crc32c = Some(accessed.version.record.crc32c.into());
    Ok(proto::AccessSecretVersionResponse {
        name: accessed.version.name(),
        payload: Some(proto::SecretPayload { data: Bytes::from_owner(accessed.payload), data_crc32c }),
    })
}

async fn enable(
    secrets: Arc<Secrets>,
    caller: Caller,
    request: proto::EnableSecretVersionRequest,
) -> Result<proto::SecretVersion> {
    change(&secrets, &caller, &request.name, &request.etag, Change::Enable).await
}

async fn disable(
    secrets: Arc<Secrets>,
    caller: Caller,
    request: proto::DisableSecretVersionRequest,
) -> Result<proto::SecretVersion> {
    change(&secrets, &caller, &request.name, &request.etag, Change::Disable).await
}

async fn destroy(
    secrets: Arc<Secrets>,
    caller: Caller,
    request: proto::DestroySecretVersionRequest,
) -> Result<proto::SecretVersion> {
    change(&secrets, &caller, &request.name, &request.etag, Change::Destroy).await
}

async fn change(
    secrets: &Secrets,
    caller: &Caller,
    name: &str,
    etag: &str,
    change: Change,
) -> Result<proto::SecretVersion> {
    let changed = secrets.change_version(&here::version(caller, name)?, etag, change).await?;
    Ok(convert::version(&changed, secrets.now()))
}

async fn get_policy(secrets: Arc<Secrets>, caller: Caller, request: GetIamPolicyRequest) -> Result<Policy> {
    let resource = secret_resource(&secrets, &caller, &request.resource).await?;
    let version = request.options.map_or(0, |options| options.requested_policy_version);
    secrets.policies().get(&resource, version)
}

async fn set_policy(secrets: Arc<Secrets>, caller: Caller, request: SetIamPolicyRequest) -> Result<Policy> {
    let resource = secret_resource(&secrets, &caller, &request.resource).await?;
    secrets.policies().set(&resource, request).await
}

async fn test_permissions(
    secrets: Arc<Secrets>,
    caller: Caller,
    request: TestIamPermissionsRequest,
) -> Result<TestIamPermissionsResponse> {
    let resource = secret_resource(&secrets, &caller, &request.resource).await?;
    let permissions = secrets.policies().test(&caller, &resource, request.permissions)?;
    Ok(TestIamPermissionsResponse { permissions })
}

impl ports::Secrets for Secrets {
    fn access<'a>(
        &'a self,
        caller: &'a Caller,
        name: &'a str,
    ) -> BoxFuture<'a, Result<ports::SecretPayload>> {
        Box::pin(async move {
            let path = names::version(name)?;
            let project = self.projects().find(path.secret.place.project).await?;
            let relative = name.splitn(3, '/').nth(2).unwrap_or_default();
            let resource = Resource::new(SERVICE, format!("projects/{}/{relative}", project.id));
            caller.require("secretmanager.versions.access", &resource)?;
            let accessed = self.access(&path).await?;
            let data = Bytes::from_owner(accessed.payload);
            Ok(ports::SecretPayload { version: accessed.version.name(), data })
        })
    }
}

/// The secret that a policy is about, which must exist.
async fn secret_resource(secrets: &Secrets, caller: &Caller, name: &str) -> Result<Resource> {
    let found = secrets.secret(&here::secret(caller, name)?).await?;
    Ok(Resource::new(SERVICE, found.record.name_of(found.id())))
}

fn missing(field: &str, text: &str) -> Error {
    Error::bad_field(field, text)
}

fn total(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}
