//! Listing and searching projects: those a caller may see, by id.

use kernel::{
    Caller, Resource, Result,
    collection::Held,
    filter::{Filter, Filterable, Kind, Value},
    paging::{Limits, Page},
    time::Micros,
};

use super::Projects;
use crate::record::ProjectRecord;

const LIMITS: Limits = Limits { usual: 500, most: 1000 };

/// What a caller asks of a listing.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen<'q> {
    /// Only those that belong to this; empty for all.
    pub(crate) parent: &'q str,
    /// Which ones.
    pub(crate) filter: &'q str,
    /// How many at a time; 0 for the usual.
    pub(crate) page_size: i32,
    /// Where to go on.
    pub(crate) page_token: &'q str,
}

impl Projects {
    /// The projects that a caller may see, and the token of the next page.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for a page or a filter that is not valid.
    pub(crate) fn list(
        &self,
        caller: &Caller,
        seen: &Seen<'_>,
    ) -> Result<(Vec<Held<ProjectRecord>>, String)> {
        let filter = Filter::parse::<ProjectRecord>(seen.filter)?;
        let page = Page::new(LIMITS, seen.page_size, seen.page_token, &[seen.parent, seen.filter])?;
        let (found, next) = self.projects.list("", &page, |id, project| {
            (seen.parent.is_empty() || project.parent_name() == seen.parent)
                && filter.matches(&project.value)
                && caller.may("resourcemanager.projects.get", &Resource::project(id))
        });
        Ok((found.into_iter().map(|(_, project)| project).collect(), next))
    }
}

impl Filterable for ProjectRecord {
    fn kind(path: &[&str]) -> Option<Kind> {
        Some(match path {
            ["id" | "project_id" | "name" | "display_name" | "project_number" | "parent"] => Kind::Text,
            ["state" | "lifecycle_state"] | ["labels", _] | ["parent", "id" | "type"] => Kind::Text,
            ["create_time" | "update_time" | "delete_time"] => Kind::Time,
            ["labels"] => Kind::Presence,
            _ => return None,
        })
    }

    fn any(&self, path: &[&str], see: &mut dyn FnMut(Value<'_>) -> bool) -> bool {
        let (parent_type, parent_id) = self.parent_name().split_once('/').unwrap_or_default();
        match path {
            ["id" | "project_id"] => see(Value::Text(&self.id)),
            ["name" | "display_name"] => see(Value::Text(&self.display_name)),
            ["project_number"] => see(Value::Text(&self.number.to_string())),
            ["state" | "lifecycle_state"] => see(Value::Text(self.lifecycle().name())),
            ["parent"] => see(Value::Text(self.parent_name())),
            ["parent", "type"] => see(Value::Text(parent_type.trim_end_matches('s'))),
            ["parent", _] => see(Value::Text(parent_id)),
            ["create_time"] => see(Value::Time(Micros(self.create_time))),
            ["update_time"] => see(Value::Time(Micros(self.update_time))),
            ["delete_time"] => self.delete_time.is_some_and(|at| see(Value::Time(Micros(at)))),
            ["labels"] => !self.labels.is_empty() && see(Value::Present),
            ["labels", key] => self.labels.get(*key).is_some_and(|value| see(Value::Text(value))),
            _ => false,
        }
    }
}
