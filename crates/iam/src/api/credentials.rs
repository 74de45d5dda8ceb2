//! Short-lived credentials, and the two older methods that sign.

use std::{sync::Arc, time::Duration};

use apis::google::iam::{
    admin::v1 as admin,
    credentials::v1::{iam_credentials::*, *},
};
use kernel::{Caller, Error, Mount, Result};

use crate::{Iam, auth::IdToken, credentials::Target};

/// The permissions here are asked on each account of a chain, by whoever stands before it: not in this table.
pub(super) fn mount(mount: Mount<Iam>) -> Mount<Iam> {
    mount
        .unary(GENERATE_ACCESS_TOKEN, &[], access_token)
        .unary(GENERATE_ID_TOKEN, &[], id_token)
        .unary(SIGN_BLOB, &[], sign_blob)
        .unary(SIGN_JWT, &[], sign_jwt)
        .unary(admin::iam::SIGN_BLOB, &[], old_sign_blob)
        .unary(admin::iam::SIGN_JWT, &[], old_sign_jwt)
}

async fn access_token(
    iam: Arc<Iam>,
    caller: Caller,
    request: GenerateAccessTokenRequest,
) -> Result<GenerateAccessTokenResponse> {
    let target = Target { name: &request.name, delegates: &request.delegates };
    let lifetime = request.lifetime.map(Duration::try_from).transpose();
    let lifetime =
        lifetime.map_err(|_| Error::bad_field("lifetime", "The lifetime must not be negative."))?;
    let (access_token, expires) = iam.generate_access_token(&caller, target, request.scope, lifetime).await?;
    let expires = std::time::UNIX_EPOCH + Duration::from_secs(expires);
    Ok(GenerateAccessTokenResponse { access_token, expire_time: Some(expires.into()) })
}

async fn id_token(
    iam: Arc<Iam>,
    caller: Caller,
    request: GenerateIdTokenRequest,
) -> Result<GenerateIdTokenResponse> {
    let target = Target { name: &request.name, delegates: &request.delegates };
    let shape = if request.include_email { IdToken::Email } else { IdToken::Bare };
    let token = iam.generate_id_token(&caller, target, &request.audience, shape).await?;
    Ok(GenerateIdTokenResponse { token })
}

async fn sign_blob(iam: Arc<Iam>, caller: Caller, request: SignBlobRequest) -> Result<SignBlobResponse> {
    let target = Target { name: &request.name, delegates: &request.delegates };
    let (key_id, signed) = iam.sign_blob(&caller, target, &request.payload).await?;
    Ok(SignBlobResponse { key_id, signed_blob: signed.into() })
}

async fn sign_jwt(iam: Arc<Iam>, caller: Caller, request: SignJwtRequest) -> Result<SignJwtResponse> {
    let target = Target { name: &request.name, delegates: &request.delegates };
    let (key_id, signed_jwt) = iam.sign_jwt(&caller, target, &request.payload).await?;
    Ok(SignJwtResponse { key_id, signed_jwt })
}

#[allow(deprecated)]
async fn old_sign_blob(
    iam: Arc<Iam>,
    caller: Caller,
    request: admin::SignBlobRequest,
) -> Result<admin::SignBlobResponse> {
    let target = Target { name: &request.name, delegates: &[] };
    let (key_id, signature) = iam.sign_blob(&caller, target, &request.bytes_to_sign).await?;
    Ok(admin::SignBlobResponse { key_id, signature: signature.into() })
}

#[allow(deprecated)]
async fn old_sign_jwt(
    iam: Arc<Iam>,
    caller: Caller,
    request: admin::SignJwtRequest,
) -> Result<admin::SignJwtResponse> {
    let target = Target { name: &request.name, delegates: &[] };
    let (key_id, signed_jwt) = iam.sign_jwt(&caller, target, &request.payload).await?;
    Ok(admin::SignJwtResponse { key_id, signed_jwt })
}
