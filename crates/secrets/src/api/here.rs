//! At which host what is served: regional secrets at their region's, `secretmanager.REGION.rep.googleapis.com`, and not at
//! the one that all regions share, as on Google
//! (<https://cloud.google.com/secret-manager/regional-secrets/regional-endpoints>). An address that is none of Google's,
//! such as `localhost`, serves everything.

use kernel::{Caller, Error, Result, services};

use crate::{
    SERVICE,
    names::{self, Place, SecretPath, VersionPath},
};

/// Reads the parent of secrets, as [`names::place`] does.
pub(super) fn place<'n>(caller: &Caller, name: &'n str) -> Result<Place<'n>> {
    let place = names::place(name)?;
    served(caller, place, name, "projects/*").map(|()| place)
}

/// Reads the name of a secret, as [`names::secret`] does.
pub(super) fn secret<'n>(caller: &Caller, name: &'n str) -> Result<SecretPath<'n>> {
    let path = names::secret(name)?;
    served(caller, path.place, name, "projects/*/secrets/*").map(|()| path)
}

/// Reads the name of a version, as [`names::version`] does.
pub(super) fn version<'n>(caller: &Caller, name: &'n str) -> Result<VersionPath<'n>> {
    let path = names::version(name)?;
    served(caller, path.secret.place, name, "projects/*/secrets/*/versions/*").map(|()| path)
}

/// Whether a call was meant for Secret Manager, by its host: other APIs have some methods in common with it.
pub(super) fn is_meant(caller: &Caller) -> bool {
    services::of_host(&caller.request().host).is_none_or(|(service, _)| service.name == SERVICE)
}

fn served(caller: &Caller, place: Place<'_>, name: &str, expected: &str) -> Result<()> {
    let is_for_all = matches!(services::of_host(&caller.request().host), Some((_, None)));
    match place.location {
        Some(_) if is_for_all => Err(Error::invalid(format!(
            "The provided Secret ID [{name}] does not match the expected format [{expected}]"
        ))),
        _ => Ok(()),
    }
}
