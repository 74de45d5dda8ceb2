//! Whether a call may run: is the API enabled, and has the caller every permission that the method asks.
//!
//! Beside each method stands what it asks, as templates over the request's fields. They are compiled once, against
//! the interface tables, into field numbers; a call then reads just those fields out of the encoded request,
//! with prost's own reader so that this check and the handler cannot see different values. Project numbers become
//! ids before anything is asked. A call with a name that is none (no project, folder or organization at its start) is
//! refused before anything runs, as Google's front end does: nobody can be asked about it.

use std::sync::Arc;

use apis::{
    MethodId,
    schema::{Cardinality, Kind, Message},
};
use kernel::{
    Caller, Error, Principal, Resource, Result, audit, error::Detail, method::Grant, names::RESOURCE_MANAGER,
    ports::Projects, services::is_shared,
};
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};

/// A permission that a method asks, ready to be asked.
pub(crate) struct Permit {
    permission: &'static str,
    service: &'static str,
    template: Vec<Piece>,
}

/// A part of a resource template.
#[derive(Debug, PartialEq, Eq)]
enum Piece {
    Text(&'static str),
    /// A string field, by the numbers on the way to it.
    Field(Vec<u32>),
}

impl Permit {
    /// Compiles a grant of a method of `service` that takes `input`.
    ///
    /// # Errors
    /// What is wrong with the template.
    pub(crate) fn compile(grant: &Grant, service: &'static str, input: Message) -> Result<Permit, String> {
        let mut template = Vec::new();
        let mut rest = grant.resource;
        while let Some((text, after)) = rest.split_once('{') {
            let (path, after) =
                after.split_once('}').ok_or_else(|| format!("'{}' does not close", grant.resource))?;
            if !text.is_empty() {
                template.push(Piece::Text(text));
            }
            template.push(Piece::Field(numbers(input, path)?));
            rest = after;
        }
        if !rest.is_empty() {
            template.push(Piece::Text(rest));
        }
        Ok(Permit { permission: grant.permission, service: grant.service.unwrap_or(service), template })
    }

    /// The name of the resource that an encoded request is about; `None` when the request is malformed.
    fn name(&self, request: &[u8]) -> Option<String> {
        let mut name = String::new();
        for piece in &self.template {
            match piece {
                Piece::Text(text) => name.push_str(text),
                Piece::Field(path) => name.push_str(last_string(request, path)?.unwrap_or_default()),
            }
        }
        Some(name)
    }
}

/// The numbers of the fields on a dotted path to a string.
fn numbers(input: Message, path: &str) -> Result<Vec<u32>, String> {
    let mut message = Some(input);
    let mut numbers = Vec::new();
    for name in path.split('.') {
        let at = message.ok_or_else(|| format!("'{path}' goes on after a string"))?;
        let field = at
            .fields()
            .find(|field| field.name() == name)
            .ok_or_else(|| format!("{} has no field '{name}' (in '{path}')", at.full_name()))?;
        if !matches!(field.cardinality(), Cardinality::Single | Cardinality::Optional) {
            return Err(format!("'{name}' (in '{path}') is repeated"));
        }
        message = match field.kind() {
            Kind::Message(inner) => Some(inner),
            Kind::String => None,
            _ => return Err(format!("'{name}' (in '{path}') is no string")),
        };
        numbers.push(field.number());
    }
    if message.is_some() { Err(format!("'{path}' is no string")) } else { Ok(numbers) }
}

/// The last value of a string field in an encoded message, which is the one that counts. `None` when the bytes
/// cannot be read; `Some(None)` when the field is not there.
fn last_string<'b>(mut bytes: &'b [u8], path: &[u32]) -> Option<Option<&'b str>> {
    let (&first, deeper) = path.split_first()?;
    let mut found = None;
    while !bytes.is_empty() {
        let (number, wire) = decode_key(&mut bytes).ok()?;
        if number != first || wire != WireType::LengthDelimited {
            skip_field(wire, number, &mut bytes, DecodeContext::default()).ok()?;
            continue;
        }
        let length = usize::try_from(decode_varint(&mut bytes).ok()?).ok()?;
        let (value, after) = bytes.split_at_checked(length)?;
        bytes = after;
        if deeper.is_empty() {
            found = Some(std::str::from_utf8(value).ok()?);
        } else if let Some(inner) = last_string(value, deeper)? {
            found = Some(inner);
        }
    }
    Some(found)
}

/// Asks, before a call runs.
pub(crate) struct Permits {
    pub(crate) projects: Arc<dyn Projects>,
}

impl Permits {
    /// Asks everything that a method wants.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT`, for a request that does not name all the resources to ask about; `PERMISSION_DENIED`, for an
    /// API that is not enabled or a permission that is missing; and as the project answers that does not exist.
    pub(crate) async fn ask(
        &self,
        permits: &[Permit],
        method: MethodId,
        caller: &Caller,
        request: &[u8],
    ) -> Result<()> {
        let named = |permit: &Permit| {
            let name = permit.name(request).ok_or_else(unreadable)?;
            named(&name).ok_or_else(|| names_nothing(method))
        };
        // Syntax goes before permissions: all names are looked at before anything is asked about the first.
        let names: Vec<Named> = permits.iter().map(named).collect::<Result<_>>()?;
        for (permit, name) in permits.iter().zip(names) {
            let resource = self.resource(permit, method.host(), name, caller).await?;
            caller.require(permit.permission, &resource)?;
        }
        Ok(())
    }

    /// What a call was asked, as the audit log has it: each permission with its resource, as far as the request names
    /// one in a project that is known.
    pub(crate) fn asked(
        &self,
        permits: &[Permit],
        request: &[u8],
        error: Option<&Error>,
    ) -> Vec<audit::Asked> {
        let mut all = Vec::with_capacity(permits.len());
        for permit in permits {
            let Some(resource) = permit.name(request).and_then(|name| self.known(permit, &named(&name)?))
            else {
                continue;
            };
            let is_refused = error.is_some_and(|error| lacks(error, permit.permission));
            all.push(audit::Asked { permission: permit.permission, resource, granted: !is_refused });
            if is_refused {
                break;
            }
        }
        all
    }

    /// The resource of a name, from memory.
    fn known(&self, permit: &Permit, name: &Named) -> Option<Resource> {
        let name = match &name.project {
            None => name.rest.clone(),
            Some(project) => format!("projects/{}{}", self.projects.known(project)?.id, name.rest),
        };
        Some(Resource::new(owner_of(permit.service, &name), name))
    }

    /// The resource of a name, in a project that may use the API.
    async fn resource(
        &self,
        permit: &Permit,
        service: &'static str,
        name: Named,
        caller: &Caller,
    ) -> Result<Resource> {
        let owner = permit.service;
        let Named { project, rest } = match name {
            Named { project: None, rest } => return Ok(Resource::new(owner_of(owner, &rest), rest)),
            named => named,
        };
        let given = project.unwrap_or_default();
        let project = match self.projects.known(&given) {
            Some(project) => project,
            // Asking makes a project of an id that was never used; only people may do that.
            None if !matches!(caller.principal(), Principal::User(_)) => {
                let resource = Resource::project(&given);
                return Err(caller.refusal(permit.permission, &resource));
            }
            None => self.projects.resolve(&given).await?,
        };
        // A mixin is no API: what it works on belongs to one.
        let api = if is_shared(service) { owner } else { service };
        if !is_shared(api) && !self.projects.enabled(&project.id, api) {
            return Err(kernel::service_disabled(api, &project));
        }
        let name = format!("projects/{}{rest}", project.id);
        Ok(Resource::new(owner_of(owner, &name), name))
    }
}

/// For a request that names no resource where it must, in the words of Google's front end.
fn names_nothing(method: MethodId) -> Error {
    let metadata = vec![("service", method.host().to_owned()), ("method", method.name().to_owned())];
    Error::invalid("Invalid resource field value in the request.").with(Detail::Info {
        reason: "RESOURCE_PROJECT_INVALID",
        domain: "googleapis.com",
        metadata,
    })
}

/// For a request that is no message.
fn unreadable() -> Error {
    Error::invalid("Request contains an invalid argument.")
}

/// Whether an error says that this permission is missing.
fn lacks(error: &Error, permission: &str) -> bool {
    error.details().iter().any(|detail| match detail {
        Detail::Info { reason: "IAM_PERMISSION_DENIED", metadata, .. } => {
            metadata.iter().any(|(key, value)| *key == "permission" && value == permission)
        }
        _ => false,
    })
}

/// A name that is one: in a project, or (without) above or across them.
#[derive(Debug, PartialEq, Eq)]
struct Named {
    project: Option<String>,
    /// What follows the project, its slash included; the whole name without one.
    rest: String,
}

/// Takes the project out of a name. `None` for what is no name.
fn named(name: &str) -> Option<Named> {
    let above = || {
        ["folders/", "organizations/"]
            .iter()
            .any(|root| {
                name.strip_prefix(root).is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/'))
            })
            .then(|| Named { project: None, rest: name.to_owned() })
    };
    let Some(inside) = name.strip_prefix("projects/") else { return above() };
    let (project, rest) = inside.split_at(inside.find('/').unwrap_or(inside.len()));
    match project {
        "" => None,
        "-" | "_" => Some(match project_of_account(rest) {
            Some(project) => Named { project: Some(project.to_owned()), rest: rest.to_owned() },
            None => Named { project: None, rest: name.to_owned() },
        }),
        _ => Some(Named { project: Some(project.to_owned()), rest: rest.to_owned() }),
    }
}

/// The project in the address of a service account: `projects/-/serviceAccounts/ADDRESS` leaves it out.
fn project_of_account(rest: &str) -> Option<&str> {
    let address = rest.strip_prefix("/serviceAccounts/")?.split('/').next()?;
    let (user, domain) = address.split_once('@')?;
    match domain {
        "developer.gserviceaccount.com" => user.strip_suffix("-compute"),
        "appspot.gserviceaccount.com" => Some(user),
        _ => domain.strip_suffix(".iam.gserviceaccount.com"),
    }
}

/// The service that a resource belongs to: names that end at a project, and all above one, are Resource Manager's.
fn owner_of(service: &'static str, name: &str) -> &'static str {
    let ends_early = name.split('/').count() == 2;
    if ends_early { RESOURCE_MANAGER } else { service }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn field(number: u32, content: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        prost::encoding::encode_key(number, WireType::LengthDelimited, &mut bytes);
        prost::encoding::encode_varint(content.len() as u64, &mut bytes);
        bytes.extend_from_slice(content);
        bytes
    }

    #[test]
    fn the_last_value_of_a_field_counts_as_in_prost() {
        let twice = [field(1, b"first"), field(2, b"other"), field(1, b"last")].concat();
        assert_eq!(last_string(&twice, &[1]), Some(Some("last")));
        let merged = [field(3, &field(1, b"inner")), field(3, &field(2, b"x"))].concat();
        assert_eq!(last_string(&merged, &[3, 1]), Some(Some("inner")));
        assert_eq!(last_string(&twice, &[9]), Some(None));
        assert_eq!(last_string(&field(1, &[0xff]), &[1]), None);
        assert_eq!(last_string(&[0x0a, 0x50, 0x00], &[1]), None);
    }

    #[test]
    fn names_give_their_project() {
        let of = |name: &str| named(name).map(|named| (named.project, named.rest));
        assert_eq!(of("projects/p/secrets/s"), Some((Some("p".into()), "/secrets/s".into())));
        assert_eq!(of("projects/p"), Some((Some("p".into()), String::new())));
        assert_eq!(of("folders/1"), Some((None, "folders/1".into())));
        assert_eq!(
            of("projects/-/serviceAccounts/a@my-project.iam.gserviceaccount.com"),
            Some((Some("my-project".into()), "/serviceAccounts/a@my-project.iam.gserviceaccount.com".into()))
        );
        assert_eq!(of("projects/-/secrets"), Some((None, "projects/-/secrets".into())));
        for none in
            ["", "projects/", "projects//secrets/s", "/projects/p", "secrets/s", "folders/", "folders//x"]
        {
            assert_eq!(of(none), None, "{none}");
        }
    }

    #[test]
    fn a_name_that_ends_at_a_project_is_resource_managers() {
        assert_eq!(owner_of("run.googleapis.com", "projects/p"), RESOURCE_MANAGER);
        assert_eq!(owner_of("run.googleapis.com", "projects/p/locations/l"), "run.googleapis.com");
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), path in proptest::collection::vec(1u32..5, 0..4)) {
            let _ = last_string(&bytes, &path);
        }

        #[test]
        fn no_name_panics(name in "(projects|folders|-|/|_|@|[a-z]|serviceAccounts){0,12}") {
            let _ = named(&name);
        }
    }
}
