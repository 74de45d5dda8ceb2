//! Cloud Identity's groups (`cloudidentity.googleapis.com`): made, found, changed, with their members. Nothing takes long
//! here, so what Google answers as an operation is done from the start.
//!
//! There is one customer, [`CUSTOMER`], and all groups are its own, whatever their domain. On Google a group's owners and
//! the administrators of the domain may change it, which IAM knows nothing of; here it is whoever owns the organization:
//! the person at the machine, and whom that person made an owner there.
//!
//! Left out, and answered `UNIMPLEMENTED`: dynamic groups, memberships that expire, security settings, and the graph of
//! memberships.
//!
//! Sources: <https://cloud.google.com/identity/docs/reference/rest/v1/groups>, and for the words of errors what people quote
//! in public issues of Terraform's provider.

use std::sync::Arc;

use apis::google::discovery::cloudidentity::v1::{
    groups::{CREATE, DELETE, GET, LIST, LOOKUP, PATCH, SEARCH},
    *,
};
use kernel::{
    Caller, Error, Mount, Resource, Result,
    error::Detail,
    mirror::Versioned,
    names::{CUSTOMER, ORGANIZATION},
    paging::{Limits, Page},
    time::Micros,
};
use prost_types::{Struct, Timestamp, Value, value::Kind};

use crate::{
    Iam,
    cel::{Term, terms},
    groups::{address, group_id, id_of},
    records::{GroupRecord, MembershipRecord},
};

/// The service.
pub(super) const IDENTITY: &str = "cloudidentity.googleapis.com";
/// What a group is that says nothing else.
const FORUM: &str = "cloudidentity.googleapis.com/groups.discussion_forum";
const SECURITY: &str = "cloudidentity.googleapis.com/groups.security";
const DYNAMIC: &str = "cloudidentity.googleapis.com/groups.dynamic";
/// The longest description, in characters.
const LONGEST: usize = 4096;
/// Sizes of a page.
const PAGES: Limits = Limits { usual: 200, most: 1000 };

pub(super) fn mount(mount: Mount<Iam>) -> Mount<Iam> {
    mount
        .unary(CREATE, &[], create)
        .unary(GET, &[], get)
        .unary(LIST, &[], list)
        .unary(LOOKUP, &[], lookup)
        .unary(PATCH, &[], patch)
        .unary(DELETE, &[], delete)
        .unary(SEARCH, &[], search)
}

/// A group with its address.
pub(super) type Found = (Arc<str>, Arc<Versioned<GroupRecord>>);

async fn create(iam: Arc<Iam>, caller: Caller, request: GroupsCreateRequest) -> Result<Operation> {
    let given = request.body.unwrap_or_default();
    let email = key_of("group.group_key", given.group_key.as_ref())?;
    if !may(&caller, "cloudidentity.groups.create") {
        let why = format!("Error(2015): Actor does not have permission to create group '{email}'.");
        return Err(about(Error::denied(why), String::new()));
    }
    let parent = given.parent.clone().unwrap_or_default();
    check_parent("group.parent", &parent)?;
    if given.dynamic_group_metadata.is_some() || given.labels.contains_key(DYNAMIC) {
        return Err(Error::unimplemented("Dynamic groups are not served here."));
    }
    let now = iam.clock.unix();
    let mut group = GroupRecord {
        display_name: given.display_name.unwrap_or_default(),
        description: given.description.unwrap_or_default(),
        id: id_of(&crate::random::<14>()?),
        created: now,
        updated: now,
        labels: given.labels,
        ..GroupRecord::default()
    };
    check(&group)?;
    if request.initial_group_config.as_deref() == Some("WITH_INITIAL_OWNER") {
        let owner = caller.principal().email().unwrap_or_default().to_ascii_lowercase();
        let roles = vec!["OWNER".to_owned()];
        group.memberships.push(MembershipRecord { email: owner.clone(), roles, created: now, updated: now });
        group.members.push(owner);
    }
    if !iam.create_group(&email, &group).await? {
        let why = format!("Error(2018): Cannot create group '{email}' because it already exists.");
        return Err(about(Error::already_exists(why), String::new()));
    }
    Ok(done("Group", fields_of(&shown(&email, &group))))
}

async fn get(iam: Arc<Iam>, caller: Caller, request: GroupsGetRequest) -> Result<Group> {
    let (email, group) = named(&iam, &caller, &request.name)?;
    Ok(shown(&email, &group))
}

async fn lookup(
    iam: Arc<Iam>,
    caller: Caller,
    request: GroupsLookupRequest,
) -> Result<LookupGroupNameResponse> {
    let key = request.group_key.unwrap_or_default();
    let email = key.id.unwrap_or_default().to_ascii_lowercase();
    let found = iam.groups.get(&email).filter(|_| may(&caller, "cloudidentity.groups.get"));
    let group = found.ok_or_else(|| {
        let why =
            format!("Error(2017): Permission denied for group resource '{email}' (or it may not exist).");
        about(Error::denied(why), String::new())
    })?;
    Ok(LookupGroupNameResponse { name: Some(name_of(&email, &group)) })
}

async fn list(iam: Arc<Iam>, caller: Caller, request: GroupsListRequest) -> Result<ListGroupsResponse> {
    let parent = request.parent.unwrap_or_default();
    check_parent("parent", &parent)?;
    allowed(&caller)?;
    let page = page(request.page_size, request.page_token.as_deref(), &parent)?;
    let (groups, next) = iam.groups_page(&page, |_, _| true);
    Ok(ListGroupsResponse { groups: all_shown(&groups), next_page_token: some(next) })
}

async fn search(iam: Arc<Iam>, caller: Caller, request: GroupsSearchRequest) -> Result<SearchGroupsResponse> {
    let query = request.query.unwrap_or_default();
    let terms = terms(&query).map_err(|fault| Error::bad_field("query", fault.why))?;
    let parent = terms.iter().find_map(|term| match term {
        Term::Is(field, value) if field == "parent" => Some(value.as_str()),
        _ => None,
    });
    check_parent("query", parent.unwrap_or_default())?;
    for term in &terms {
        matches(term, "", &GroupRecord::default())?;
    }
    allowed(&caller)?;
    let page = page(request.page_size, request.page_token.as_deref(), &query)?;
    let is_wanted = |email: &str, group: &GroupRecord| {
        terms.iter().all(|term| matches(term, email, group).unwrap_or_default())
    };
    let (groups, next) = iam.groups_page(&page, is_wanted);
    Ok(SearchGroupsResponse { groups: all_shown(&groups), next_page_token: some(next) })
}

/// Whether a group is what a term asks for.
fn matches(term: &Term, email: &str, group: &GroupRecord) -> Result<bool> {
    let domain = || email.rsplit_once('@').map_or("", |(_, domain)| domain);
    Ok(match term {
        Term::Is(field, _) if field == "parent" => true,
        Term::Has(field, label) if field == "labels" => group.labels.contains_key(label),
        Term::Is(field, id) if field == "group_key.id" || field == "groupKey.id" => {
            email.eq_ignore_ascii_case(id)
        }
        Term::Is(field, name) if field == "display_name" || field == "displayName" => {
            group.display_name == *name
        }
        Term::Begins(field, begin) => match field.as_str() {
            "display_name" | "displayName" => group.display_name.starts_with(begin),
            "group_key.id" | "groupKey.id" => email.starts_with(begin),
            _ => return Err(unknown(field)),
        },
        Term::Is(field, value) if field == "domain_name" || field == "domainName" => domain() == value,
        Term::Is(field, _) | Term::Has(field, _) => return Err(unknown(field)),
    })
}

fn unknown(field: &str) -> Error {
    Error::bad_field("query", format!("The query names a field that groups cannot be found by: {field}"))
}

async fn patch(iam: Arc<Iam>, caller: Caller, request: GroupsPatchRequest) -> Result<Operation> {
    let (email, _) = named(&iam, &caller, &request.name)?;
    let given = request.body.unwrap_or_default();
    let mask = request.update_mask.unwrap_or_default();
    let paths: Vec<&str> = mask.split(',').map(str::trim).filter(|path| !path.is_empty()).collect();
    let change = |group: &mut GroupRecord| {
        for path in &paths {
            match *path {
                "display_name" | "displayName" => {
                    group.display_name = given.display_name.clone().unwrap_or_default()
                }
                "description" => group.description = given.description.clone().unwrap_or_default(),
                "labels" => group.labels.clone_from(&given.labels),
                other => {
                    let why = format!("A group cannot be changed in {other}.");
                    return Err(Error::bad_field("update_mask", why));
                }
            }
        }
        check(group)?;
        Ok(group.clone())
    };
    if paths.is_empty() {
        return Err(Error::bad_field("update_mask", "The update mask must name at least one field."));
    }
    let changed = iam.change_group(&email, change).await?.ok_or_else(|| hidden(&request.name))?;
    Ok(done("Group", fields_of(&shown(&email, &changed))))
}

async fn delete(iam: Arc<Iam>, caller: Caller, request: GroupsDeleteRequest) -> Result<Operation> {
    let (email, _) = named(&iam, &caller, &request.name)?;
    match iam.delete_group(&email).await? {
        true => Ok(Operation { done: Some(true), response: Some(empty()), ..Operation::default() }),
        false => Err(hidden(&request.name)),
    }
}

/// The group that a name means, for those who may see it.
///
/// # Errors
/// `PERMISSION_DENIED`, whether it exists or not; `INVALID_ARGUMENT` for what is no name.
pub(super) fn named(iam: &Iam, caller: &Caller, name: &str) -> Result<Found> {
    let id = name.strip_prefix("groups/").filter(|id| !id.is_empty() && !id.contains('/'));
    let id = id.ok_or_else(|| {
        let why = "Error(2033): Group resource name has the correct format of `groups/{group_id}`, but it contains an \
                   invalid `{groupd_id}`.";
        Error::bad_field("resource.name", why)
    })?;
    let found = iam.group_by_id(id).filter(|_| may(caller, "cloudidentity.groups.get"));
    found.ok_or_else(|| hidden(name))
}

pub(super) fn hidden(name: &str) -> Error {
    let why = format!("Error(2028): Permission denied for resource {name} (or it may not exist).");
    about(Error::denied(why), name.to_owned())
}

/// Says which resource an error is about.
fn about(error: Error, name: String) -> Error {
    let why = error.message().to_owned();
    error.with(Detail::Resource(
        "cloudidentity.googleapis.com/Group".into(),
        name,
        "domain:cloudidentity.googleapis.com".into(),
        why,
    ))
}

/// Whether somebody owns the organization: no role but owner has these permissions.
fn may(caller: &Caller, permission: &str) -> bool {
    caller.may(permission, &Resource::new(IDENTITY, ORGANIZATION))
}

/// Refuses whoever may not see all groups.
///
/// # Errors
/// `PERMISSION_DENIED`.
pub(super) fn allowed(caller: &Caller) -> Result<()> {
    match may(caller, "cloudidentity.groups.list") {
        true => Ok(()),
        false => {
            Err(Error::denied("Error(2028): Permission denied for resource groups (or it may not exist)."))
        }
    }
}

/// Refuses what is not the one customer.
pub(super) fn check_parent(field: &str, parent: &str) -> Result<()> {
    let id = parent.strip_prefix("customers/").or_else(|| parent.strip_prefix("customerId/"));
    match id {
        Some(CUSTOMER) => Ok(()),
        Some("") | None => {
            Err(Error::bad_field(field, format!("The parent must be customers/{CUSTOMER}: {parent:?}")))
        }
        Some(_) => Err(about(
            Error::denied(format!(
                "Error(2028): Permission denied for resource {parent} (or it may not exist)."
            )),
            String::new(),
        )),
    }
}

fn check(group: &GroupRecord) -> Result<()> {
    if group.description.chars().count() > LONGEST {
        let why = format!("The description is longer than {LONGEST} characters.");
        return Err(Error::bad_field("group.description", why));
    }
    if group.display_name.chars().count() > LONGEST {
        return Err(Error::bad_field("group.display_name", "The display name is too long."));
    }
    let is_known = |label: &String| [FORUM, SECURITY].contains(&label.as_str());
    if !group.labels.contains_key(FORUM) || !group.labels.keys().all(is_known) {
        let why = format!("A group has the label {FORUM}, and beside it at most {SECURITY}.");
        return Err(Error::bad_field("group.labels", why));
    }
    Ok(())
}

/// The address in a key.
///
/// # Errors
/// `INVALID_ARGUMENT` for none, and for a key of another directory.
pub(super) fn key_of(field: &str, key: Option<&EntityKey>) -> Result<String> {
    let key = key.cloned().unwrap_or_default();
    if key.namespace.is_some_and(|namespace| !namespace.is_empty()) {
        return Err(Error::unimplemented("Keys of other directories are not served here."));
    }
    address(&key.id.unwrap_or_default())
        .map_err(|error| Error::bad_field(format!("{field}.id"), error.message()))
}

pub(super) fn page(size: Option<i32>, token: Option<&str>, request: &str) -> Result<Page> {
    Page::new(PAGES, size.unwrap_or_default(), token.unwrap_or_default(), &[request])
}

/// A text, if it says anything.
pub(super) fn some(text: impl Into<String>) -> Option<String> {
    Some(text.into()).filter(|text| !text.is_empty())
}

pub(super) fn name_of(email: &str, group: &GroupRecord) -> String {
    format!("groups/{}", group_id(email, group))
}

pub(super) fn key(email: &str) -> Option<EntityKey> {
    Some(EntityKey { id: Some(email.to_owned()), namespace: None })
}

fn all_shown(groups: &[Found]) -> Vec<Group> {
    groups.iter().map(|(email, group)| shown(email, group)).collect()
}

fn shown(email: &str, group: &GroupRecord) -> Group {
    Group {
        name: Some(name_of(email, group)),
        group_key: key(email),
        parent: Some(format!("customers/{CUSTOMER}")),
        display_name: some(&*group.display_name),
        description: some(&*group.description),
        create_time: time(group.created),
        update_time: time(group.updated),
        labels: group.labels.clone(),
        ..Group::default()
    }
}

/// A moment, where it is known.
pub(super) fn time(seconds: u64) -> Option<String> {
    (seconds != 0).then(|| Timestamp::from(Micros::seconds(seconds)).to_string())
}

/// An operation that is done, with what it made.
pub(super) fn done(kind: &str, mut fields: Struct) -> Operation {
    let kind = format!("type.googleapis.com/google.apps.cloudidentity.groups.v1.{kind}");
    fields.fields.insert("@type".into(), text(kind));
    Operation { done: Some(true), response: Some(fields), ..Operation::default() }
}

/// What an operation gives that leaves nothing.
pub(super) fn empty() -> Struct {
    structure([("@type", Some(text("type.googleapis.com/google.protobuf.Empty")))])
}

pub(super) fn text(text: impl Into<String>) -> Value {
    Value { kind: Some(Kind::StringValue(text.into())) }
}

pub(super) fn nested(fields: Struct) -> Value {
    Value { kind: Some(Kind::StructValue(fields)) }
}

pub(super) fn structure<const N: usize>(fields: [(&str, Option<Value>); N]) -> Struct {
    let fields = fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
    Struct { fields: fields.collect() }
}

/// A group as JSON shows it.
fn fields_of(group: &Group) -> Struct {
    let labels = group.labels.iter().map(|(name, value)| (name.clone(), text(value)));
    let id = group.group_key.as_ref().and_then(|key| key.id.clone());
    structure([
        ("name", group.name.clone().map(text)),
        ("groupKey", Some(nested(structure([("id", id.map(text))])))),
        ("parent", group.parent.clone().map(text)),
        ("displayName", group.display_name.clone().map(text)),
        ("description", group.description.clone().map(text)),
        ("createTime", group.create_time.clone().map(text)),
        ("updateTime", group.update_time.clone().map(text)),
        ("labels", Some(nested(Struct { fields: labels.collect() }))),
    ])
}
