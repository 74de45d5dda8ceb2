//! What stands above projects: folders, and the one organization.
//!
//! The organization is always there, and always the same. Folders nest ten deep, as Google's do; names are unique among
//! those of one parent. Deleting one is possible once it is empty, and can be taken back.

use aws_lc_rs::rand;
use kernel::{
    Caller, Code, Error, Resource, Result,
    collection::Held,
    filter::{Filter, Filterable, Kind, Value},
    names::{ORGANIZATION, RESOURCE_MANAGER},
    paging::{Limits, Page},
};

use super::{ATTEMPTS, Projects};
use crate::{record::FolderRecord, rules};

/// How deep folders nest (<https://cloud.google.com/resource-manager/docs/creating-managing-folders>).
const DEEPEST: usize = 10;
const LIMITS: Limits = Limits { usual: 100, most: 1000 };

/// When the organization was made: before everything in it, in microseconds since 1970.
pub(crate) const fn organization_made() -> u64 {
    // The first of January, 2024.
    1_704_067_200_000_000
}

/// What a caller asks of a listing of folders.
pub(crate) struct FolderSettings<'q> {
    /// Only those that belong to this; empty for all.
    pub(crate) parent: &'q str,
    /// Whether deleted ones are shown too.
    pub(crate) deleted: bool,
    /// Which ones.
    pub(crate) query: &'q str,
    /// How many at a time; 0 for the usual.
    pub(crate) page_size: i32,
    /// Where to go on.
    pub(crate) page_token: &'q str,
}

impl Projects {
    /// Makes a folder.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for a name or a parent that cannot be; `FAILED_PRECONDITION` for a name that is taken, or too
    /// deep.
    pub(crate) async fn create_folder(&self, parent: &str, display_name: &str) -> Result<Held<FolderRecord>> {
        rules::check_folder_name(display_name)?;
        self.check_folder_place(parent, display_name, 1)?;
        let now = self.now().0;
        for _ in 0..ATTEMPTS {
            let folder = FolderRecord {
                number: random_number()?,
                display_name: display_name.to_owned(),
                parent: parent.to_owned(),
                create_time: now,
                update_time: now,
                delete_time: None,
            };
            match self.folders.create(&folder.number.to_string(), folder).await {
                Err(error) if error.code() == Code::AlreadyExists => {}
                made => return made,
            }
        }
        Err(Error::exhausted("There is no folder number left to assign."))
    }

    /// A folder, deleted ones included.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for what is no folder's name; `NOT_FOUND`.
    pub(crate) fn folder(&self, name: &str) -> Result<Held<FolderRecord>> {
        let Some([number]) = kernel::names::parse(name, ["folders"]) else {
            return Err(Error::bad_field(
                "name",
                format!("Resource name [{name}] is not of the form folders/*."),
            ));
        };
        self.folders.get(number)
    }

    /// The folders that a caller may see, by number, and the token of the next page.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for a page or a query that is not valid.
    pub(crate) fn list_folders(
        &self,
        caller: &Caller,
        asked: &FolderSettings<'_>,
    ) -> Result<(Vec<Held<FolderRecord>>, String)> {
        let query = Filter::parse::<FolderRecord>(asked.query)?;
        let page = Page::new(LIMITS, asked.page_size, asked.page_token, &[asked.parent, asked.query])?;
        let (found, next) = self.folders.list("", &page, |_, folder| {
            (asked.parent.is_empty() || folder.parent == asked.parent)
                && (asked.deleted || folder.delete_time.is_none())
                && query.matches(&folder.value)
                && caller.may("resourcemanager.folders.get", &Resource::new(RESOURCE_MANAGER, folder.name()))
        });
        Ok((found.into_iter().map(|(_, folder)| folder).collect(), next))
    }

    /// Calls a folder something else.
    pub(crate) async fn rename_folder(
        &self,
        name: &str,
        etag: &str,
        display_name: &str,
    ) -> Result<Held<FolderRecord>> {
        rules::check_folder_name(display_name)?;
        let found = self.folder(name)?;
        if found.display_name != display_name {
            self.check_sibling(&found.parent, display_name)?;
        }
        self.change_folder(&found, etag, |folder| display_name.clone_into(&mut folder.display_name)).await
    }

    /// Moves a folder with all that is in it.
    ///
    /// # Errors
    /// `FAILED_PRECONDITION` for a place in itself, too deep, or where its name is taken.
    pub(crate) async fn move_folder(&self, name: &str, to: &str) -> Result<Held<FolderRecord>> {
        let found = self.folder(name)?;
        self.check_parent(to)?;
        if self.line(to).iter().any(|above| *above == found.name()) {
            return Err(Error::precondition("A folder cannot be moved into itself."));
        }
        self.check_folder_place(to, &found.display_name, self.height(&found.name()))?;
        self.change_folder(&found, "", |folder| to.clone_into(&mut folder.parent)).await
    }

    /// Marks a folder as deleted, which must be empty, or takes that back.
    pub(crate) async fn delete_folder(&self, name: &str) -> Result<Held<FolderRecord>> {
        let found = self.folder(name)?;
        require_active(&found)?;
        if self.has_children(&found.name()) {
            return Err(Error::precondition("The folder is not empty: it holds projects or folders."));
        }
        let now = self.now().0;
        self.change_folder(&found, "", |folder| folder.delete_time = Some(now)).await
    }

    /// Brings a deleted folder back.
    pub(crate) async fn undelete_folder(&self, name: &str) -> Result<Held<FolderRecord>> {
        let found = self.folder(name)?;
        if found.delete_time.is_none() {
            return Err(Error::precondition("The folder is not deleted."));
        }
        self.check_folder_place(&found.parent, &found.display_name, 1)?;
        self.change_folder(&found, "", |folder| folder.delete_time = None).await
    }

    /// Checks what a project or a folder is to belong to; empty is the organization.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for what is neither; `NOT_FOUND` for what does not exist.
    pub(crate) fn check_parent(&self, parent: &str) -> Result<()> {
        rules::check_parent(parent)?;
        match parent.strip_prefix("folders/") {
            None if parent.is_empty() || parent == ORGANIZATION => Ok(()),
            Some(number) if self.folders.find(number).is_some_and(|folder| folder.delete_time.is_none()) => {
                Ok(())
            }
            _ => Err(Error::bad_field("parent", format!("Parent [{parent}] does not exist."))),
        }
    }

    async fn change_folder(
        &self,
        found: &FolderRecord,
        etag: &str,
        change: impl Fn(&mut FolderRecord) + Send + Sync,
    ) -> Result<Held<FolderRecord>> {
        let now = self.now().0;
        let apply = |folder: &mut FolderRecord| {
            change(folder);
            folder.update_time = now.max(folder.update_time);
            Ok(())
        };
        self.folders.update(&found.number.to_string(), etag, apply).await
    }

    fn check_folder_place(&self, parent: &str, display_name: &str, height: usize) -> Result<()> {
        if parent.is_empty() {
            return Err(Error::bad_field("folder.parent", "Field [folder.parent] is required."));
        }
        self.check_parent(parent)?;
        let above = self.line(parent).iter().filter(|name| name.starts_with("folders/")).count();
        if above + height > DEEPEST {
            return Err(Error::precondition(format!("Folders nest at most {DEEPEST} deep.")));
        }
        self.check_sibling(parent, display_name)
    }

    fn check_sibling(&self, parent: &str, display_name: &str) -> Result<()> {
        let same = |folder: &FolderRecord| {
            folder.parent == parent
                && folder.delete_time.is_none()
                && folder.display_name.eq_ignore_ascii_case(display_name)
        };
        match self.folders.mirror().list().iter().any(|(_, folder)| same(folder)) {
            true => Err(Error::precondition(format!(
                "A folder called [{display_name}] exists already in [{parent}]."
            ))),
            false => Ok(()),
        }
    }

    /// A container and all that it is in.
    fn line(&self, container: &str) -> Vec<String> {
        let above =
            |name: &String| kernel::ports::Projects::parent(self, name).map(|above| above.to_string());
        std::iter::successors(Some(container.to_owned()), above).take(2 * DEEPEST).collect()
    }

    /// How many folders lie in each other at most, from this one down.
    fn height(&self, name: &str) -> usize {
        let all = self.folders.mirror().list();
        let depths = all.iter().map(|(_, folder)| {
            let line = self.line(&folder.name());
            line.iter().position(|above| above == name).map_or(0, |at| at + 1)
        });
        depths.max().unwrap_or(1)
    }

    fn has_children(&self, name: &str) -> bool {
        let is_folder = |folder: &FolderRecord| folder.parent == name && folder.delete_time.is_none();
        self.folders.mirror().list().iter().any(|(_, folder)| is_folder(folder))
            || self.projects.mirror().list().iter().any(|(_, project)| project.parent == name)
    }
}

impl Filterable for FolderRecord {
    fn kind(path: &[&str]) -> Option<Kind> {
        matches!(path, ["display_name" | "parent" | "state" | "lifecycle_state"]).then_some(Kind::Text)
    }

    fn any(&self, path: &[&str], see: &mut dyn FnMut(Value<'_>) -> bool) -> bool {
        match path {
            ["display_name"] => see(Value::Text(&self.display_name)),
            ["parent"] => see(Value::Text(&self.parent)),
            ["state" | "lifecycle_state"] => see(Value::Text(self.state())),
            _ => false,
        }
    }
}

fn require_active(folder: &FolderRecord) -> Result<()> {
    match folder.delete_time {
        None => Ok(()),
        Some(_) => Err(Error::precondition("The folder is deleted.")),
    }
}

/// A number of twelve digits.
fn random_number() -> Result<u64> {
    let mut bytes = [0; 8];
    rand::fill(&mut bytes).map_err(Error::internal)?;
    Ok(100_000_000_000 + u64::from_be_bytes(bytes) % 900_000_000_000)
}
