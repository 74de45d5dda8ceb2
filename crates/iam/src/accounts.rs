//! Service accounts: made, found, changed, deleted and brought back.
//!
//! An account lives under its address; what is granted to it is granted to its unique id. Deleted ones are kept
//! aside for thirty days, under that id, so that the address is free at once and the account can come back with
//! what it had.
//!
//! **The default account.** Every project has `NUMBER-compute@developer.gserviceaccount.com`, which Cloud Run
//! services run as when they name no other. It has no role: organizations made since May 2024 enforce
//! `constraints/iam.automaticIamGrantsForDefaultServiceAccounts`, which keeps the once automatic `roles/editor`
//! from it (<https://cloud.google.com/resource-manager/docs/secure-by-default-organizations>).
//!
//! Left out: the quota of accounts a project may have.

use std::sync::Arc;

use kernel::{
    Error, Result,
    error::Detail,
    mirror::{Record, Versioned},
    paging::Page,
    ports::Project,
    store::{Outcome, Txn},
};

use crate::{
    Iam, SERVICE,
    auth::project_of,
    decide::{lowercase, stored_name},
    records::{ACCOUNTS, AccountRecord, USED},
};

/// How long a deleted account can be brought back, in seconds.
const KEPT: u64 = 30 * 24 * 3600;

/// The address of a project's default service account.
pub fn default_account(project: &Project) -> String {
    format!("{}-compute@developer.gserviceaccount.com", project.number)
}

/// What people choose about an account.
#[derive(Clone, Debug, Default)]
pub(crate) struct Chosen {
    /// What it is called.
    pub display_name: String,
    /// What it is for.
    pub description: String,
}

impl Iam {
    /// Makes sure that a project's default service account exists. Cheap when it does.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn ensure_project(&self, project: &Project) -> Result<()> {
        let email = default_account(project);
        if !self.is_default_to_be(&email) {
            return Ok(());
        }
        let chosen = Chosen { display_name: "Default compute service account".into(), ..Chosen::default() };
        let account = new_account(&project.id, email, chosen)?;
        // A conflict means that another call was first.
        self.accounts.commit(creation(&account)).await.map(drop)
    }

    /// Whether this is the address of a default account that was not written yet: its project is known, and it
    /// was never deleted.
    pub(crate) fn is_default_to_be(&self, email: &str) -> bool {
        let number = email.strip_suffix("-compute@developer.gserviceaccount.com");
        number.is_some_and(|number| {
            number.bytes().all(|b| b.is_ascii_digit())
                && self.projects.known(number).is_some_and(|project| project.number.to_string() == number)
                && self.accounts.get(email).is_none()
                && self.deleted.scan("", "", 1, |_, account| account.email == email).is_empty()
        })
    }

    /// The account with this address or unique id.
    pub(crate) fn find_account(&self, name: &str) -> Option<AccountRecord> {
        self.find_version(name).map(|account| account.value.clone())
    }

    fn find_version(&self, name: &str) -> Option<Arc<Versioned<AccountRecord>>> {
        match name.is_empty() || !name.bytes().all(|b| b.is_ascii_digit()) {
            true => self.accounts.get(&lowercase(name)),
            false => self
                .accounts
                .scan("", "", 1, |_, account| account.unique_id == name)
                .pop()
                .map(|(_, found)| found),
        }
    }

    /// The account with this address or unique id.
    ///
    /// # Errors
    /// `NOT_FOUND`.
    pub(crate) fn require_account(&self, name: &str) -> Result<AccountRecord> {
        self.find_account(name)
            .ok_or_else(|| Error::not_found(format!("Service account {name} does not exist.")))
    }

    /// The account that a workload runs as; a default account is made now if it was not.
    ///
    /// # Errors
    /// `NOT_FOUND` where there is none, `FAILED_PRECONDITION` when it is disabled.
    pub(crate) async fn usable_account(&self, email: &str) -> Result<AccountRecord> {
        self.settle_default(email).await?;
        let account = self.require_account(email)?;
        match account.disabled {
            true => Err(Error::precondition(format!("Service account {email} is disabled."))),
            false => Ok(account),
        }
    }

    /// Writes a default account that is asked for by its address before anything else needed it.
    pub(crate) async fn settle_default(&self, email: &str) -> Result<()> {
        let project = email.split_once("-compute@").and_then(|(number, _)| self.projects.known(number));
        match project.filter(|_| self.is_default_to_be(email)) {
            Some(project) => self.ensure_project(&project).await,
            None => Ok(()),
        }
    }

    /// The account that a resource name means: `projects/P/serviceAccounts/A`, where `P` may be `-`.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for another form, `NOT_FOUND` where there is no such account.
    pub(crate) async fn account_named(&self, name: &str) -> Result<Arc<Versioned<AccountRecord>>> {
        let [project, account] = kernel::names::parse(name, ["projects", "serviceAccounts"])
            .ok_or_else(|| Error::invalid(format!("Invalid service account name: {name}")))?;
        self.settle_default(account).await?;
        let project =
            self.projects.known(project).map_or_else(|| project.to_owned(), |project| project.id.to_string());
        self.find_version(account)
            .filter(|found| project == "-" || found.project == project)
            .ok_or_else(|| Error::not_found(format!("Service account {name} does not exist.")))
    }

    /// Makes an account.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for an id that is none, `ALREADY_EXISTS`.
    pub(crate) async fn create_account(
        &self,
        project: &Project,
        id: &str,
        chosen: Chosen,
    ) -> Result<AccountRecord> {
        check_id(id)?;
        check_chosen(&chosen)?;
        let domain = match project.id.split_once(':') {
            Some((organization, project)) => format!("{project}.{organization}"),
            None => project.id.to_string(),
        };
        let account = new_account(&project.id, format!("{id}@{domain}.iam.gserviceaccount.com"), chosen)?;
        match self.accounts.commit(creation(&account)).await? {
            Outcome::Committed(_) => Ok(account),
            Outcome::Conflict(_) => Err(already_exists(id, &project.id, &account.email)),
        }
    }

    /// A page of a project's accounts, ordered by address, and the token of the next.
    pub(crate) async fn list_accounts(
        &self,
        project: &Project,
        page: &Page,
    ) -> Result<(Vec<AccountRecord>, String)> {
        self.ensure_project(project).await?;
        let is_its = |_: &str, account: &Versioned<AccountRecord>| *account.project == *project.id;
        let mut found = self.accounts.scan("", page.after(), page.size() + 1, is_its);
        let more = found.len() > page.size();
        found.truncate(page.size());
        let token = match found.last() {
            Some((last, _)) if more => page.token(last),
            _ => String::new(),
        };
        Ok((found.into_iter().map(|(_, account)| account.value.clone()).collect(), token))
    }

    /// Changes an account.
    ///
    /// # Errors
    /// As [`Iam::account_named`], `INVALID_ARGUMENT` for texts that are too long, `ABORTED` when another change won.
    pub(crate) async fn change_account(
        &self,
        name: &str,
        change: impl FnOnce(&mut AccountRecord),
    ) -> Result<AccountRecord> {
        let found = self.account_named(name).await?;
        let mut account = found.value.clone();
        change(&mut account);
        check_chosen(&Chosen {
            display_name: account.display_name.clone(),
            description: account.description.clone(),
        })?;
        if account == found.value {
            return Ok(account);
        }
        let key = self.accounts.key(&account.email);
        self.commit(Txn::new().check(&key, found.revision).put(&key, account.to_stored())).await?;
        Ok(account)
    }

    /// Deletes an account; its tokens end at once.
    ///
    /// # Errors
    /// As [`Iam::change_account`].
    pub(crate) async fn delete_account(&self, name: &str) -> Result<()> {
        let found = self.account_named(name).await?;
        let account = AccountRecord { deleted: self.clock.unix(), ..found.value.clone() };
        let key = self.accounts.key(&account.email);
        let aside = self.deleted.key(&account.unique_id);
        let txn = Txn::new().check(&key, found.revision).delete(&key).put(aside, account.to_stored());
        self.commit(txn.delete([USED, &account.email].concat())).await?;
        self.forget_usage(&account.email);
        Ok(())
    }

    /// Brings a deleted account back, by its unique id.
    ///
    /// # Errors
    /// `NOT_FOUND` when it is not kept any more, `ALREADY_EXISTS` when another one has its address now.
    pub(crate) async fn undelete_account(&self, name: &str) -> Result<AccountRecord> {
        let id = name.rsplit('/').next().unwrap_or(name);
        let now = self.clock.unix();
        let found = self
            .deleted
            .get(id)
            .filter(|account| account.deleted + KEPT > now)
            .ok_or_else(|| Error::not_found(format!("Service account {id} does not exist.")))?;
        let account = AccountRecord { deleted: 0, ..found.value.clone() };
        let aside = self.deleted.key(id);
        let txn = creation(&account).check(&aside, found.revision).delete(&aside);
        match self.transact(txn).await? {
            Outcome::Committed(_) => Ok(account),
            Outcome::Conflict(_) => {
                let id = account.email.split('@').next().unwrap_or_default();
                Err(already_exists(id, &account.project, &account.email))
            }
        }
    }

    /// Forgets what nobody can ask for any more: accounts deleted more than thirty days ago with their keys and
    /// policies, custom roles whose ids are free again, sessions whose last token expired, and pools and providers that
    /// cannot come back. Worth calling now and then; it does a part at a time.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn sweep(&self) -> Result<()> {
        let now = self.clock.unix();
        let mut txn = self.forgotten_roles(now);
        for (name, _) in
            self.revoked.scan("", "", 64, |_, session| session.until != 0 && session.until <= now)
        {
            txn = txn.delete(self.revoked.key(&name));
        }
        for (id, account) in self.deleted.scan("", "", 1, |_, account| account.deleted + KEPT <= now) {
            let policy = stored_name(SERVICE, &format!("projects/{}/serviceAccounts/{id}", account.project));
            txn = txn.delete(self.deleted.key(&id)).delete(self.policies.key(&policy));
            for (key, _) in self.keys.range(&format!("{id}/"), "", 32) {
                txn = txn.delete(self.keys.key(&key));
            }
        }
        if !txn.deletes.is_empty() {
            self.commit(txn).await?;
        }
        self.forget_federation().await
    }

    /// Whether a member of a policy names an account of ours that does not exist.
    pub(crate) fn is_missing(&self, email: &str) -> bool {
        let is_ours = project_of(email).is_some_and(|project| self.projects.known(&project).is_some())
            || email
                .strip_suffix("-compute@developer.gserviceaccount.com")
                .is_some_and(|number| self.projects.known(number).is_some());
        is_ours && self.accounts.get(email).is_none()
    }
}

fn new_account(project: &str, email: String, chosen: Chosen) -> Result<AccountRecord> {
    let number = u128::from_be_bytes(crate::random()?) % 10u128.pow(20);
    Ok(AccountRecord {
        project: project.to_owned(),
        email,
        unique_id: format!("1{number:020}"),
        display_name: chosen.display_name,
        description: chosen.description,
        disabled: false,
        deleted: 0,
    })
}

fn creation(account: &AccountRecord) -> Txn {
    let key = format!("{ACCOUNTS}{}", account.email);
    Txn::new().check(&key, 0).put(key, account.to_stored())
}

fn already_exists(id: &str, project: &str, email: &str) -> Error {
    Error::already_exists(format!("Service account {id} already exists within project projects/{project}."))
        .with(Detail::Resource(
            String::new(),
            format!("projects/{project}/serviceAccounts/{email}"),
            String::new(),
            String::new(),
        ))
}

/// Google's rule: 6 to 30 lowercase letters, digits and hyphens; a letter first, no hyphen last.
fn check_id(id: &str) -> Result<()> {
    if !(6..=30).contains(&id.len()) {
        return Err(Error::bad_field(
            "account_id",
            format!("The account ID \"{id}\" does not have a length between 6 and 30."),
        ));
    }
    let ok = id.starts_with(|c: char| c.is_ascii_lowercase())
        && !id.ends_with('-')
        && id.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    match ok {
        true => Ok(()),
        false => Err(Error::bad_field(
            "account_id",
            format!(
                "The account ID \"{id}\" does not match the regular expression [a-z]([-a-z0-9]*[a-z0-9])."
            ),
        )),
    }
}

fn check_chosen(chosen: &Chosen) -> Result<()> {
    match () {
        () if chosen.display_name.len() > 100 => Err(Error::bad_field(
            "service_account.display_name",
            "The display name is longer than 100 bytes.",
        )),
        () if chosen.description.len() > 256 => {
            Err(Error::bad_field("service_account.description", "The description is longer than 256 bytes."))
        }
        () => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_follow_googles_rule() {
        for id in ["abcdef", "a23456", "my-app-sa", &"a".repeat(30)] {
            assert!(check_id(id).is_ok(), "{id}");
        }
        for id in ["", "abcde", "Abcdef", "1bcdef", "abcde-", "abc_def", &"a".repeat(31), "abcdé1"] {
            assert!(check_id(id).is_err(), "{id}");
        }
    }
}
