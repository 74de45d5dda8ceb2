//! Keys of service accounts.

use std::{sync::Arc, time::Duration};

use apis::google::iam::admin::v1::{iam::*, list_service_account_keys_request::KeyType, *};
use kernel::{Caller, Error, Mount, Result, grant};

use crate::{
    Iam,
    auth::public,
    records::{AccountRecord, KeyOrigin, KeyRecord},
};

pub(super) fn mount(mount: Mount<Iam>) -> Mount<Iam> {
    mount
        .unary(LIST_SERVICE_ACCOUNT_KEYS, const { &[grant("iam.serviceAccountKeys.list", "{name}")] }, list)
        .unary(GET_SERVICE_ACCOUNT_KEY, const { &[grant("iam.serviceAccountKeys.get", "{name}")] }, get)
        .unary(
            CREATE_SERVICE_ACCOUNT_KEY,
            const { &[grant("iam.serviceAccountKeys.create", "{name}")] },
            create,
        )
        .unary(
            UPLOAD_SERVICE_ACCOUNT_KEY,
            const { &[grant("iam.serviceAccountKeys.create", "{name}")] },
            upload,
        )
        .unary(
            DELETE_SERVICE_ACCOUNT_KEY,
            const { &[grant("iam.serviceAccountKeys.delete", "{name}")] },
            delete,
        )
        .unary(
            ENABLE_SERVICE_ACCOUNT_KEY,
            const { &[grant("iam.serviceAccountKeys.enable", "{name}")] },
            enable,
        )
        .unary(
            DISABLE_SERVICE_ACCOUNT_KEY,
            const { &[grant("iam.serviceAccountKeys.disable", "{name}")] },
            disable,
        )
}

async fn list(
    iam: Arc<Iam>,
    _: Caller,
    request: ListServiceAccountKeysRequest,
) -> Result<ListServiceAccountKeysResponse> {
    let account = iam.account_named(&request.name).await?;
    let wants = |kind: i32| request.key_types.is_empty() || request.key_types.contains(&kind);
    if wants(KeyType::SystemManaged as i32) {
        // On Google every account has one from the start; here it is made when somebody first looks or signs.
        iam.signer_of(&account).await?;
    }
    let keys = iam.keys_of(&account.unique_id).into_iter().map(|key| shown(&account, &key));
    let keys = keys.filter(|key| wants(key.key_type)).collect();
    Ok(ListServiceAccountKeysResponse { keys })
}

async fn get(iam: Arc<Iam>, _: Caller, request: GetServiceAccountKeyRequest) -> Result<ServiceAccountKey> {
    let (account, id) = named(&iam, &request.name).await?;
    let key = iam.key_of(&account, &id)?;
    let mut answer = shown(&account, &key);
    match request.public_key_type() {
        ServiceAccountPublicKeyType::TypeNone => {}
        ServiceAccountPublicKeyType::TypeRawPublicKey => {
            let pem = public(&key).pem().ok_or_else(|| Error::internal("cannot encode a public key"))?;
            answer.public_key_data = pem.into_bytes().into();
        }
        ServiceAccountPublicKeyType::TypeX509PemFile => {
            answer.public_key_data = key.certificate.into_bytes().into()
        }
    }
    Ok(answer)
}

async fn create(
    iam: Arc<Iam>,
    _: Caller,
    request: CreateServiceAccountKeyRequest,
) -> Result<ServiceAccountKey> {
    use ServiceAccountKeyAlgorithm as Algorithm;
    use ServiceAccountPrivateKeyType as Format;
    if !matches!(request.key_algorithm(), Algorithm::KeyAlgUnspecified | Algorithm::KeyAlgRsa2048) {
        return Err(Error::bad_field("key_algorithm", "Only KEY_ALG_RSA_2048 is supported."));
    }
    if !matches!(request.private_key_type(), Format::TypeUnspecified | Format::TypeGoogleCredentialsFile) {
        return Err(Error::bad_field("private_key_type", "Only TYPE_GOOGLE_CREDENTIALS_FILE is supported."));
    }
    let account = iam.account_named(&request.name).await?;
    iam.may_create_key(&account)?;
    let (key, file) = iam.create_key(&account).await?;
    Ok(ServiceAccountKey {
        private_key_type: Format::TypeGoogleCredentialsFile as i32,
        private_key_data: format!("{file:#}").into_bytes().into(),
        ..shown(&account, &key)
    })
}

async fn upload(
    iam: Arc<Iam>,
    _: Caller,
    request: UploadServiceAccountKeyRequest,
) -> Result<ServiceAccountKey> {
    let account = iam.account_named(&request.name).await?;
    iam.may_upload_key(&account)?;
    let key = iam.upload_key(&account, &request.public_key_data).await?;
    Ok(shown(&account, &key))
}

async fn delete(iam: Arc<Iam>, _: Caller, request: DeleteServiceAccountKeyRequest) -> Result<()> {
    let (account, id) = named(&iam, &request.name).await?;
    iam.delete_key(&account, &id).await
}

async fn enable(iam: Arc<Iam>, _: Caller, request: EnableServiceAccountKeyRequest) -> Result<()> {
    let (account, id) = named(&iam, &request.name).await?;
    iam.switch_key(&account, &id, false).await
}

async fn disable(iam: Arc<Iam>, _: Caller, request: DisableServiceAccountKeyRequest) -> Result<()> {
    let (account, id) = named(&iam, &request.name).await?;
    iam.switch_key(&account, &id, true).await
}

/// The account and the id in `projects/P/serviceAccounts/A/keys/K`.
async fn named(iam: &Iam, name: &str) -> Result<(AccountRecord, String)> {
    let (account, id) = name
        .split_once("/keys/")
        .filter(|(_, id)| !id.is_empty() && !id.contains('/'))
        .ok_or_else(|| Error::bad_field("name", format!("Invalid service account key name: {name}")))?;
    Ok((iam.account_named(account).await?.value.clone(), id.to_owned()))
}

fn shown(account: &AccountRecord, key: &KeyRecord) -> ServiceAccountKey {
    let is_ours = key.origin == KeyOrigin::System as i32;
    let is_uploaded = key.origin == KeyOrigin::Uploaded as i32;
    let origin = match is_uploaded {
        true => ServiceAccountKeyOrigin::UserProvided,
        false => ServiceAccountKeyOrigin::GoogleProvided,
    };
    ServiceAccountKey {
        name: format!("projects/{}/serviceAccounts/{}/keys/{}", account.project, account.email, key.id),
        key_algorithm: algorithm(key) as i32,
        valid_after_time: Some(time(key.after)),
        valid_before_time: Some(time(key.before)),
        key_origin: origin as i32,
        key_type: if is_ours { KeyType::SystemManaged } else { KeyType::UserManaged } as i32,
        disabled: key.disabled,
        ..ServiceAccountKey::default()
    }
}

/// An uploaded key may be of another length, which Google's list of algorithms does not name.
fn algorithm(key: &KeyRecord) -> ServiceAccountKeyAlgorithm {
    match key.modulus.len() {
        128 => ServiceAccountKeyAlgorithm::KeyAlgRsa1024,
        256 => ServiceAccountKeyAlgorithm::KeyAlgRsa2048,
        _ => ServiceAccountKeyAlgorithm::KeyAlgUnspecified,
    }
}

fn time(seconds: u64) -> prost_types::Timestamp {
    (std::time::UNIX_EPOCH + Duration::from_secs(seconds)).into()
}
