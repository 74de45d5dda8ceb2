//! What a deploy is asked for, checked before anything is made.

use std::path::{Path, PathBuf};

use crate::report::{Doing, Result, Trouble};

/// The most characters of a service's name.
const LONGEST: usize = 49;

/// A deploy, settled.
#[derive(Debug)]
pub struct Wanted {
    /// The folder, absolute.
    pub directory: PathBuf,
    /// The service.
    pub name: String,
    /// The region.
    pub region: String,
}

impl Wanted {
    pub fn settle(directory: &Path, name: Option<String>, region: String) -> Result<Self> {
        let found = directory.canonicalize().doing(format_args!("find {}", directory.display()));
        let directory = found.map_err(|trouble| trouble.next("name the folder that holds the app"))?;
        if !directory.is_dir() {
            return Err(Trouble::new(format!("{} is not a folder", directory.display()))
                .next("name the folder that holds the app"));
        }
        let name = match name {
            Some(name) if is_name(&name) => name,
            Some(name) => {
                return Err(Trouble::new(format!("'{name}' cannot be a service's name")).next(
                    "use at most 49 lower-case letters, digits and dashes, a letter first and no dash last",
                ));
            }
            None => name_of(&directory)?,
        };
        Ok(Wanted { directory, name, region })
    }

    /// The host of Cloud Run's API for its region.
    pub fn host(&self) -> String {
        format!("{}-run.googleapis.com", self.region)
    }

    /// Where services and jobs of its region are.
    pub fn parent(&self, project: &str) -> String {
        format!("projects/{project}/locations/{}", self.region)
    }
}

/// The folder's name, as far as it can be a service's.
fn name_of(directory: &Path) -> Result<String> {
    let folder = directory.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    let mut name: String = folder.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    name.truncate(LONGEST);
    let name = name.trim_matches('-');
    match is_name(name) {
        true => Ok(name.to_owned()),
        false => Err(Trouble::new(format!("a service cannot be named after {}", directory.display()))
            .next("give it a name with --name")),
    }
}

fn is_name(name: &str) -> bool {
    let is_inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    name.len() <= LONGEST
        && name.bytes().all(is_inner)
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && !name.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_named_after_its_folder() {
        for (folder, name) in [("/x/django", "django"), ("/x/My App_2", "my-app-2")] {
            assert_eq!(name_of(Path::new(folder)).unwrap(), name);
        }
        for nameless in ["/", "/x/42", "/x/2nd-try", "/x/_"] {
            assert!(name_of(Path::new(nameless)).is_err(), "{nameless}");
        }
    }

    #[test]
    fn names_are_those_of_services() {
        assert!(is_name("tide") && is_name("t1-de"));
        for bad in ["", "Tide", "1tide", "tide-", "ti_de", &"t".repeat(50)] {
            assert!(!is_name(bad), "{bad}");
        }
    }
}
