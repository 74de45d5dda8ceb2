//! Who is in a group, directly or by another: the other half of [Cloud Identity's API](super::groups).

use std::sync::Arc;

use apis::google::discovery::cloudidentity::v1::{groups_memberships::*, *};
use kernel::{Caller, Error, Mount, Result};
use prost_types::{ListValue, Struct, Value, value::Kind};

use super::groups::{
    Found, allowed, check_parent, done, empty, hidden, key, key_of, name_of, named, nested, page, some,
    structure, text, time,
};
use crate::{
    Iam,
    auth::subject,
    cel::{Term, terms},
    records::{GroupRecord, MembershipRecord},
};

pub(super) fn mount(mount: Mount<Iam>) -> Mount<Iam> {
    mount
        .unary(CREATE, &[], create)
        .unary(GET, &[], get)
        .unary(LIST, &[], list)
        .unary(LOOKUP, &[], lookup)
        .unary(DELETE, &[], delete)
        .unary(MODIFY_MEMBERSHIP_ROLES, &[], modify_roles)
        .unary(CHECK_TRANSITIVE_MEMBERSHIP, &[], check_transitive)
        .unary(SEARCH_TRANSITIVE_GROUPS, &[], search_groups)
        .unary(SEARCH_TRANSITIVE_MEMBERSHIPS, &[], search_members)
        .unary(SEARCH_DIRECT_GROUPS, &[], search_direct)
}

/// How many roles may be named at once.
const MOST_ROLES: usize = 16;

async fn create(iam: Arc<Iam>, caller: Caller, request: GroupsMembershipsCreateRequest) -> Result<Operation> {
    let (group, _) = named(&iam, &caller, &request.parent)?;
    let given = request.body.unwrap_or_default();
    let email = key_of("membership.preferred_member_key", given.preferred_member_key.as_ref())?;
    let roles = accepted(&given.roles)?;
    let now = iam.clock.unix();
    let is_new = |record: &mut GroupRecord| {
        let Err(at) = record.members.binary_search(&email) else { return Ok(false) };
        record.members.insert(at, email.clone());
        // Who was a member once may have left roles behind.
        record.memberships.retain(|one| one.email != email);
        let (email, roles) = (email.clone(), roles.clone());
        record.memberships.push(MembershipRecord { email, roles, created: now, updated: now });
        Ok(true)
    };
    if !iam.change_group(&group, is_new).await?.ok_or_else(|| hidden(&request.parent))? {
        let why = format!(
            "Error(4003): Cannot create membership '{email}' in '{group}' because it already exists."
        );
        return Err(Error::already_exists(why));
    }
    let (_, record) = named(&iam, &caller, &request.parent)?;
    Ok(done("Membership", fields_of(&shown(&iam, &(group, record), &email))))
}

/// The roles besides being a member.
fn accepted(roles: &[MembershipRole]) -> Result<Vec<String>> {
    if roles.iter().any(|role| role.expiry_detail.as_ref().is_some_and(|one| one.expire_time.is_some())) {
        return Err(Error::unimplemented("Memberships that expire are not served here."));
    }
    names(roles.iter().map(|role| role.name.clone().unwrap_or_default()).collect())
}

fn names(mut roles: Vec<String>) -> Result<Vec<String>> {
    let is_known = |role: &String| ["MEMBER", "MANAGER", "OWNER"].contains(&role.as_str());
    if roles.len() > MOST_ROLES || !roles.iter().all(is_known) {
        return Err(Error::bad_field("membership.roles.name", "A role is one of MEMBER, MANAGER and OWNER."));
    }
    roles.retain(|role| role != "MEMBER");
    roles.sort_unstable();
    roles.dedup();
    Ok(roles)
}

async fn get(iam: Arc<Iam>, caller: Caller, request: GroupsMembershipsGetRequest) -> Result<Membership> {
    let (group, email) = member(&iam, &caller, &request.name)?;
    Ok(shown(&iam, &group, &email))
}

async fn list(
    iam: Arc<Iam>,
    caller: Caller,
    request: GroupsMembershipsListRequest,
) -> Result<ListMembershipsResponse> {
    let group = named(&iam, &caller, &request.parent)?;
    let page = page(request.page_size, request.page_token.as_deref(), &request.parent)?;
    let after = group.1.members.iter().filter(|email| email.as_str() > page.after());
    let found: Vec<String> = after.take(page.size().saturating_add(1)).cloned().collect();
    let (found, next) = page.cut(found, |email| email);
    let memberships = found.iter().map(|email| shown(&iam, &group, email)).collect();
    Ok(ListMembershipsResponse { memberships, next_page_token: some(next) })
}

async fn lookup(
    iam: Arc<Iam>,
    caller: Caller,
    request: GroupsMembershipsLookupRequest,
) -> Result<LookupMembershipNameResponse> {
    let (email, group) = named(&iam, &caller, &request.parent)?;
    let id = request.member_key.unwrap_or_default().id.unwrap_or_default().to_ascii_lowercase();
    match group.members.contains(&id) {
        true => Ok(LookupMembershipNameResponse { name: Some(membership_name(&email, &group, &id)) }),
        false => {
            let why = format!("Error(4005): Membership '{id}' in '{email}' does not exist.");
            Err(Error::not_found(why))
        }
    }
}

async fn delete(iam: Arc<Iam>, caller: Caller, request: GroupsMembershipsDeleteRequest) -> Result<Operation> {
    let ((group, _), email) = member(&iam, &caller, &request.name)?;
    let change = |record: &mut GroupRecord| {
        record.members.retain(|one| *one != email);
        record.memberships.retain(|one| one.email != email);
        Ok(())
    };
    iam.change_group(&group, change).await?.ok_or_else(|| hidden(&request.name))?;
    Ok(Operation { done: Some(true), response: Some(empty()), ..Operation::default() })
}

async fn modify_roles(
    iam: Arc<Iam>,
    caller: Caller,
    request: GroupsMembershipsModifyMembershipRolesRequest,
) -> Result<ModifyMembershipRolesResponse> {
    let ((group, _), email) = member(&iam, &caller, &request.name)?;
    let given = request.body.unwrap_or_default();
    if !given.update_roles_params.is_empty() {
        return Err(Error::unimplemented("Memberships that expire are not served here."));
    }
    if given.remove_roles.iter().any(|role| role == "MEMBER") {
        let why = "The role MEMBER cannot be removed; delete the membership instead.";
        return Err(Error::bad_field("remove_roles", why));
    }
    let (added, removed) = (accepted(&given.add_roles)?, names(given.remove_roles)?);
    let now = iam.clock.unix();
    let change = |record: &mut GroupRecord| {
        if record.members.binary_search(&email).is_err() {
            return Err(hidden(&request.name));
        }
        let mut held = details(record, &email);
        held.updated = now;
        held.roles.retain(|role| !removed.contains(role));
        held.roles.extend(added.iter().cloned());
        held.roles = names(std::mem::take(&mut held.roles))?;
        record.memberships.retain(|one| one.email != email);
        record.memberships.push(held);
        Ok(())
    };
    iam.change_group(&group, change).await?.ok_or_else(|| hidden(&request.name))?;
    let (group, email) = member(&iam, &caller, &request.name)?;
    Ok(ModifyMembershipRolesResponse { membership: Some(shown(&iam, &group, &email)) })
}

async fn check_transitive(
    iam: Arc<Iam>,
    caller: Caller,
    request: GroupsMembershipsCheckTransitiveMembershipRequest,
) -> Result<CheckTransitiveMembershipResponse> {
    let (group, _) = named(&iam, &caller, &request.parent)?;
    let Asked { member, labels } = Asked::read(request.query.as_deref())?;
    if !labels.is_empty() {
        return Err(Error::bad_field("query", "The query names a member_key_id and nothing else."));
    }
    let has = iam.groups_above(&member).iter().any(|above| **above == *group);
    Ok(CheckTransitiveMembershipResponse { has_membership: Some(has) })
}

/// What a query asks: in whose groups, and which labels they must have.
struct Asked {
    member: String,
    labels: Vec<String>,
}

impl Asked {
    fn read(query: Option<&str>) -> Result<Self> {
        let wrong = |why: &str| Error::bad_field("query", why);
        let terms = terms(query.unwrap_or_default()).map_err(|fault| wrong(&fault.why))?;
        let (mut member, mut labels) = (None, Vec::new());
        for term in terms {
            match term {
                Term::Is(field, id) if field == "member_key_id" || field == "member_key.id" => {
                    member = Some(id)
                }
                Term::Has(field, label) if field == "labels" => labels.push(label),
                Term::Is(field, parent) if field == "parent" => check_parent("query", &parent)?,
                _ => {
                    return Err(wrong(
                        "The query asks for another thing than member_key_id, labels and parent.",
                    ));
                }
            }
        }
        let member = member.ok_or_else(|| wrong("The query must name a member_key_id."))?;
        Ok(Asked { member: member.to_ascii_lowercase(), labels })
    }
}

/// The groups above the member of a query, with whether it is in each directly.
fn groups_of(iam: &Iam, query: &str) -> Result<(String, Vec<(Found, bool)>)> {
    let Asked { member, labels } = Asked::read(Some(query))?;
    if labels.is_empty() {
        return Err(Error::bad_field("query", "The query must name a label: '...' in labels."));
    }
    let above = iam.groups_above(&member);
    let found = above.iter().filter_map(|email| Some((Arc::from(email.as_str()), iam.groups.get(email)?)));
    let has_labels = |group: &GroupRecord| labels.iter().all(|label| group.labels.contains_key(label));
    let found = found.filter(|(_, group)| has_labels(group));
    let mut found: Vec<(Found, bool)> = found
        .map(|group| (group.1.members.contains(&member), group))
        .map(|(direct, group)| (group, direct))
        .collect();
    found.sort_by(|(a, _), (b, _)| a.0.cmp(&b.0));
    Ok((member, found))
}

/// How a member belongs to a group, in Google's words.
fn relation(is_direct: bool) -> Option<String> {
    some(if is_direct { "DIRECT" } else { "INDIRECT" })
}

async fn search_groups(
    iam: Arc<Iam>,
    caller: Caller,
    request: GroupsMembershipsSearchTransitiveGroupsRequest,
) -> Result<SearchTransitiveGroupsResponse> {
    anywhere(&caller, &request.parent)?;
    let query = request.query.unwrap_or_default();
    let page = page(request.page_size, request.page_token.as_deref(), &query)?;
    let (member, found) = groups_of(&iam, &query)?;
    let (found, next) = part(found, &page, |(group, _)| &group.0);
    let memberships = found.into_iter().map(|((email, group), is_direct)| GroupRelation {
        group: Some(name_of(&email, &group)),
        group_key: key(&email),
        display_name: some(&*group.display_name),
        labels: group.labels.clone(),
        relation_type: relation(is_direct),
        roles: transitive(&group, &member, is_direct),
    });
    Ok(SearchTransitiveGroupsResponse { memberships: memberships.collect(), next_page_token: some(next) })
}

async fn search_direct(
    iam: Arc<Iam>,
    caller: Caller,
    request: GroupsMembershipsSearchDirectGroupsRequest,
) -> Result<SearchDirectGroupsResponse> {
    anywhere(&caller, &request.parent)?;
    if !matches!(request.order_by.as_deref(), None | Some("" | "group_key" | "group_key asc")) {
        return Err(Error::unimplemented("Groups are listed in the order of their keys, and in no other."));
    }
    let query = request.query.unwrap_or_default();
    let page = page(request.page_size, request.page_token.as_deref(), &query)?;
    let (member, mut found) = groups_of(&iam, &query)?;
    found.retain(|(_, is_direct)| *is_direct);
    let (found, next) = part(found, &page, |(group, _)| &group.0);
    let memberships = found.into_iter().map(|((email, group), _)| MembershipRelation {
        membership: Some(membership_name(&email, &group, &member)),
        group: Some(name_of(&email, &group)),
        group_key: key(&email),
        display_name: some(&*group.display_name),
        description: some(&*group.description),
        labels: group.labels.clone(),
        roles: roles(&group, &member),
    });
    Ok(SearchDirectGroupsResponse { memberships: memberships.collect(), next_page_token: some(next) })
}

async fn search_members(
    iam: Arc<Iam>,
    caller: Caller,
    request: GroupsMembershipsSearchTransitiveMembershipsRequest,
) -> Result<SearchTransitiveMembershipsResponse> {
    let (group, record) = named(&iam, &caller, &request.parent)?;
    let page = page(request.page_size, request.page_token.as_deref(), &request.parent)?;
    let below: Vec<(String, bool)> = iam.members_below(&group).into_iter().collect();
    let (found, next) = part(below, &page, |(email, _)| email);
    let memberships = found.into_iter().map(|(email, is_direct)| MemberRelation {
        member: some(match iam.groups.get(&email) {
            Some(group) => name_of(&email, &group),
            None => format!("users/{}", subject(&email)),
        }),
        roles: transitive(&record, &email, is_direct),
        relation_type: relation(is_direct),
        preferred_member_key: key(&email).into_iter().collect(),
    });
    Ok(SearchTransitiveMembershipsResponse {
        memberships: memberships.collect(),
        next_page_token: some(next),
    })
}

/// Searches go over all groups.
fn anywhere(caller: &Caller, parent: &str) -> Result<()> {
    match parent {
        "groups/-" => allowed(caller),
        _ => Err(Error::bad_field("parent", "The parent of a search must be groups/-.")),
    }
}

/// A page of what is in memory, and the token of the next.
fn part<T>(all: Vec<T>, page: &kernel::paging::Page, name: impl Fn(&T) -> &str) -> (Vec<T>, String) {
    let after = all.into_iter().filter(|one| name(one) > page.after());
    page.cut(after.take(page.size().saturating_add(1)).collect(), name)
}

/// A group and the address of its member that a membership's name means.
fn member(iam: &Iam, caller: &Caller, name: &str) -> Result<(Found, String)> {
    let (parent, id) = name.split_once("/memberships/").unwrap_or((name, ""));
    let group = named(iam, caller, parent)?;
    let email = group.1.members.iter().find(|email| subject(email) == id).cloned();
    let email = email.ok_or_else(|| hidden(name))?;
    Ok((group, email))
}

fn membership_name(group: &str, record: &GroupRecord, email: &str) -> String {
    format!("{}/memberships/{}", name_of(group, record), subject(email))
}

/// What is known of a member.
fn details(group: &GroupRecord, email: &str) -> MembershipRecord {
    let known = group.memberships.iter().find(|one| one.email == email).cloned();
    known.unwrap_or_else(|| MembershipRecord { email: email.to_owned(), ..MembershipRecord::default() })
}

fn role(name: impl Into<String>) -> MembershipRole {
    MembershipRole { name: Some(name.into()), ..MembershipRole::default() }
}

fn roles(group: &GroupRecord, email: &str) -> Vec<MembershipRole> {
    let more = details(group, email).roles.into_iter().map(role);
    std::iter::once(role("MEMBER")).chain(more).collect()
}

/// Who is in a group by another one is a plain member of it.
fn transitive(group: &GroupRecord, email: &str, is_direct: bool) -> Vec<TransitiveMembershipRole> {
    let all = if is_direct { roles(group, email) } else { vec![role("MEMBER")] };
    all.into_iter().map(|role| TransitiveMembershipRole { role: role.name }).collect()
}

fn shown(iam: &Iam, (group, record): &Found, email: &str) -> Membership {
    let known = details(record, email);
    let kind = match () {
        () if iam.groups.get(email).is_some() => "GROUP",
        () if email.ends_with(".gserviceaccount.com") => "SERVICE_ACCOUNT",
        () => "USER",
    };
    Membership {
        name: Some(membership_name(group, record, email)),
        preferred_member_key: key(email),
        roles: roles(record, email),
        r#type: Some(kind.into()),
        create_time: time(known.created),
        update_time: time(known.updated),
        ..Membership::default()
    }
}

/// A membership as JSON shows it.
fn fields_of(membership: &Membership) -> Struct {
    let role = |role: &MembershipRole| nested(structure([("name", role.name.clone().map(text))]));
    let values = membership.roles.iter().map(role).collect();
    let id = membership.preferred_member_key.as_ref().and_then(|key| key.id.clone());
    structure([
        ("name", membership.name.clone().map(text)),
        ("preferredMemberKey", Some(nested(structure([("id", id.map(text))])))),
        ("roles", Some(Value { kind: Some(Kind::ListValue(ListValue { values })) })),
        ("type", membership.r#type.clone().map(text)),
        ("createTime", membership.create_time.clone().map(text)),
        ("updateTime", membership.update_time.clone().map(text)),
    ])
}
