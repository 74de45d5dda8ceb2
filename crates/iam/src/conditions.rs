//! The conditions of bindings: what is accepted, and what they are asked about.
//!
//! A condition is checked when a policy is set, so that one which is stored compiles. Which attributes a resource has
//! follows Google's table: services that are not in it (Cloud Run, Artifact Registry, service accounts) tell
//! conditions neither name nor type, and a condition on those does not hold for them.
//!
//! Sources: <https://cloud.google.com/iam/docs/conditions-overview>,
//! <https://cloud.google.com/iam/docs/conditions-resource-attributes>, <https://cloud.google.com/iam/quotas>.

use std::{cell::OnceCell, net::IpAddr, time::SystemTime};

use apis::google::r#type::Expr;
use kernel::{
    Error, Result,
    names::{RESOURCE_MANAGER, parse},
    ports::Projects,
};

use crate::{
    cel::{Attributes, Missing, Program, Target},
    records::ConditionRecord,
};

/// The most of `&&`, `||` and `!` in an expression.
const MOST_OPERATORS: usize = 12;
/// The longest title, in characters.
const MOST_TITLE: usize = 100;
/// The longest description, in characters.
const MOST_DESCRIPTION: usize = 256;
/// What stands between a role and the mark of its condition, for clients that know no conditions.
const MARK: &str = "_withcond_";

/// Checks a condition.
///
/// # Errors
/// `INVALID_ARGUMENT` for one that does not compile or is too long.
pub(crate) fn accept(condition: &Expr) -> Result<ConditionRecord> {
    let invalid = |what: String| Err(Error::bad_field("policy.bindings.condition", what));
    if condition.title.trim().is_empty() {
        return invalid("A condition must have a title.".into());
    }
    if condition.title.chars().count() > MOST_TITLE {
        return invalid(format!("The title of a condition is longer than {MOST_TITLE} characters."));
    }
    if condition.description.chars().count() > MOST_DESCRIPTION {
        return invalid(format!(
            "The description of a condition is longer than {MOST_DESCRIPTION} characters."
        ));
    }
    match problem(&condition.expression) {
        Some((_, why)) => {
            invalid(format!("The expression of condition '{}' is not valid: {why}", condition.title))
        }
        None => Ok(ConditionRecord {
            expression: condition.expression.clone(),
            title: condition.title.clone(),
            description: condition.description.clone(),
            location: condition.location.clone(),
        }),
    }
}

/// What is wrong with an expression, if anything: how many bytes before the mistake, and the compiler's words.
pub(crate) fn problem(expression: &str) -> Option<(usize, String)> {
    match Program::compile(expression) {
        Err(fault) => {
            let (line, column) = place(expression, fault.at);
            Some((fault.at, format!("ERROR: <expression>:{line}:{column}: {fault}")))
        }
        Ok(program) if program.operators() > MOST_OPERATORS => Some((
            0,
            format!(
                "The expression has {} logical operators, and {MOST_OPERATORS} are allowed.",
                program.operators()
            ),
        )),
        Ok(_) => None,
    }
}

/// A place as people count it.
fn place(text: &str, at: usize) -> (usize, usize) {
    let before = text.get(..at).unwrap_or(text);
    let column = before.rsplit('\n').next().unwrap_or(before).chars().count();
    (before.matches('\n').count() + 1, column + 1)
}

/// A condition as text, for errors and answers.
pub(crate) fn shown(condition: &ConditionRecord) -> Expr {
    Expr {
        expression: condition.expression.clone(),
        title: condition.title.clone(),
        description: condition.description.clone(),
        location: condition.location.clone(),
    }
}

/// The role of a conditional binding as clients see it that asked for a version without conditions.
pub(crate) fn marked(role: &str, condition: &ConditionRecord) -> String {
    let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
    for part in [&condition.expression, &condition.title, &condition.description] {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part.as_bytes());
    }
    let digest = context.finish();
    let hash: String = digest.as_ref().iter().take(10).map(|byte| format!("{byte:02x}")).collect();
    format!("{role}{MARK}{hash}")
}

/// Whether a role carries such a mark.
pub(crate) fn is_marked(role: &str) -> bool {
    role.contains(MARK)
}

/// What a decision knows about a request, for conditions. What needs work is done when the first condition asks.
pub(crate) struct Context<'r> {
    time: SystemTime,
    service: &'r str,
    name: &'r str,
    projects: &'r dyn Projects,
    resource: OnceCell<Option<Named>>,
    destination: Option<(IpAddr, u16)>,
    modified: Modified,
}

/// Which roles a call grants or takes away.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Modified {
    /// None: it sets no policy.
    Nothing,
    /// It sets a policy, and which one is not known when permissions are asked: conditions on that do not hold.
    Unknown,
}

/// A resource as conditions see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Named {
    /// The service.
    pub service: String,
    /// The type.
    pub kind: String,
    /// The name.
    pub name: String,
}

impl<'r> Context<'r> {
    /// What is known of a request for this resource, whose project is named by its id.
    pub(crate) fn new(time: SystemTime, service: &'r str, name: &'r str, projects: &'r dyn Projects) -> Self {
        Context {
            time,
            service,
            name,
            projects,
            resource: OnceCell::new(),
            destination: None,
            modified: Modified::Nothing,
        }
    }

    /// Says where the request goes to.
    pub(crate) fn destination(self, destination: Option<(IpAddr, u16)>) -> Self {
        Context { destination, ..self }
    }

    /// Says which roles it changes.
    pub(crate) fn modified(self, modified: Modified) -> Self {
        Context { modified, ..self }
    }

    /// Says what conditions are told of the resource, whatever it is.
    pub(crate) fn resource(self, given: Option<Named>) -> Self {
        match given {
            Some(named) => Context { resource: OnceCell::from(Some(named)), ..self },
            None => self,
        }
    }

    /// Whether a condition holds.
    ///
    /// # Errors
    /// What it needs and the request has not.
    pub(crate) fn holds(&self, program: &Program) -> Result<bool, Missing> {
        let named = self.resource.get_or_init(|| describe(self.service, self.name, self.projects));
        let resource = named.as_ref().map(|named| Target {
            service: &named.service,
            kind: &named.kind,
            name: &named.name,
        });
        let modified_roles = (self.modified == Modified::Nothing).then_some(&[][..]);
        let time = self.time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos() as i128;
        program.holds(&Attributes { time, resource, destination: self.destination, modified_roles })
    }
}

/// Whether conditions know a project by its number or by its id.
#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    Number,
    Id,
}

/// What conditions are told of a resource; `None` where Google tells them nothing.
pub(crate) fn describe(service: &str, name: &str, projects: &dyn Projects) -> Option<Named> {
    let (kind, by) = kind(service, name)?;
    let shown = match by {
        By::Id => name.to_owned(),
        By::Number => projects.numbered(name),
    };
    Some(Named { service: service.to_owned(), kind: format!("{service}/{kind}"), name: shown })
}

fn kind(service: &str, name: &str) -> Option<(&'static str, By)> {
    Some(match service {
        "secretmanager.googleapis.com" => match () {
            () if parse(name, ["projects", "secrets"]).is_some() => ("Secret", By::Number),
            () if parse(name, ["projects", "secrets", "versions"]).is_some() => ("SecretVersion", By::Number),
            () if parse(name, ["projects", "locations", "secrets"]).is_some() => ("Secret", By::Number),
            () if parse(name, ["projects", "locations", "secrets", "versions"]).is_some() => {
                ("SecretVersion", By::Number)
            }
            () => return None,
        },
        RESOURCE_MANAGER => parse(name, ["projects"]).map(|_| ("Project", By::Number))?,
        "sqladmin.googleapis.com" => parse(name, ["projects", "instances"]).map(|_| ("Instance", By::Id))?,
        "logging.googleapis.com" => match () {
            () if parse(name, ["projects", "locations", "buckets"]).is_some() => ("LogBucket", By::Id),
            () if parse(name, ["projects", "locations", "buckets", "views"]).is_some() => ("LogView", By::Id),
            () => return None,
        },
        "storage.googleapis.com" => bucket_kind(name)?,
        _ => return None,
    })
}

/// `projects/_/buckets/B`, and what lies in it. The names of objects may hold slashes.
fn bucket_kind(name: &str) -> Option<(&'static str, By)> {
    let (bucket, rest) = name.strip_prefix("projects/_/buckets/")?.split_once('/').map_or_else(
        || (name.strip_prefix("projects/_/buckets/").unwrap_or_default(), ""),
        |(bucket, rest)| (bucket, rest),
    );
    match rest.split('/').next() {
        _ if bucket.is_empty() => None,
        Some("") => Some(("Bucket", By::Id)),
        Some("objects") => Some(("Object", By::Id)),
        Some("managedFolders") => Some(("ManagedFolder", By::Id)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expr(title: &str, expression: &str) -> Expr {
        Expr { title: title.into(), expression: expression.into(), ..Expr::default() }
    }

    #[test]
    fn a_condition_is_checked_before_it_is_kept() {
        assert!(accept(&expr("soon", "request.time < timestamp('2030-01-01T00:00:00Z')")).is_ok());
        let message = |condition: &Expr| accept(condition).unwrap_err().message().to_owned();
        assert_eq!(message(&expr("", "true")), "A condition must have a title.");
        assert!(message(&expr(&"t".repeat(101), "true")).contains("longer than 100"));
        assert_eq!(
            message(&expr("soon", "request.tme < 1")),
            "The expression of condition 'soon' is not valid: ERROR: <expression>:1:9: undeclared reference to \
             'request.tme' (in container '')"
        );
        let twelve = format!("true{}", " && true".repeat(12));
        assert!(accept(&expr("t", &twelve)).is_ok());
        assert!(message(&expr("t", &format!("{twelve} || true"))).contains("13 logical operators"));
    }

    #[test]
    fn a_mark_depends_on_the_whole_condition() {
        let one = accept(&expr("t", "true")).unwrap();
        let other = accept(&expr("t", "false")).unwrap();
        let mark = marked("roles/viewer", &one);
        assert_eq!(mark.len(), "roles/viewer_withcond_".len() + 20);
        assert!(is_marked(&mark) && mark != marked("roles/viewer", &other));
    }

    #[test]
    fn resources_are_named_as_googles_table_has_it() {
        let kind = |service: &str, name: &str| kind(service, name).map(|(kind, _)| kind);
        assert_eq!(
            kind("secretmanager.googleapis.com", "projects/p/secrets/s/versions/1"),
            Some("SecretVersion")
        );
        assert_eq!(kind("cloudresourcemanager.googleapis.com", "projects/p"), Some("Project"));
        assert_eq!(kind("storage.googleapis.com", "projects/_/buckets/b"), Some("Bucket"));
        assert_eq!(kind("storage.googleapis.com", "projects/_/buckets/b/objects/a/b/c"), Some("Object"));
        assert_eq!(kind("storage.googleapis.com", "projects/_/buckets/"), None);
        assert_eq!(kind("run.googleapis.com", "projects/p/locations/l/services/s"), None);
    }
}
