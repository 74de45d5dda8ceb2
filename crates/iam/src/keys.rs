//! RSA keys: those of service accounts, and the one that signs identity tokens.
//!
//! What a user creates is shown once; only its public half stays. Each account also has a key of ours, made when
//! it first signs, for `signBlob` and `signJwt`. It is never the key that signs identity tokens: whoever may sign
//! anything as an account must not be able to make a token that speaks for another.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use aws_lc_rs::digest::{SHA256, digest};
use kernel::{
    Error, Result,
    mirror::Record,
    store::{Outcome, Store, Txn},
};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use crate::{
    Iam,
    jwt::{Signer, pem},
    records::{AccountRecord, KeyOrigin, KeyRecord, SYSTEM},
    x509::Certificate,
};

/// The most keys that users may have for one account.
const MOST: usize = 10;
/// How long a key of ours signs, in seconds.
const SYSTEM_KEY_LIFE: u64 = 10 * 365 * 24 * 3600;
/// When keys of users expire: 9999-12-31T23:59:59Z.
pub(crate) const NEVER: u64 = 253_402_300_799;

/// The private keys that are in use.
pub(crate) struct Signers {
    stored: Option<Vec<u8>>,
    issuer: OnceCell<Arc<Signer>>,
    accounts: Mutex<HashMap<String, Arc<Signer>>>,
}

impl Signers {
    /// Reads the stored key of the issuer, if there is one, without parsing it yet.
    pub(crate) async fn open(store: &dyn Store) -> Result<Self> {
        let stored = store.get(&issuer_key()).await?.map(|entry| entry.value.to_vec());
        Ok(Signers { stored, issuer: OnceCell::new(), accounts: Mutex::default() })
    }

    /// The signer of identity tokens, made if there was none.
    pub(crate) async fn issuer(&self, store: &Arc<dyn Store>) -> Result<Arc<Signer>> {
        let made = self.issuer.get_or_try_init(|| async {
            if let Some(stored) = &self.stored {
                return read_issuer(stored).map(Arc::new);
            }
            let fresh = generate(hex(&crate::random::<20>()?)).await?;
            let stored = [fresh.id().as_bytes(), &fresh.to_pkcs8()?].concat();
            match store.txn(Txn::new().check(issuer_key(), 0).put(issuer_key(), stored)).await? {
                Outcome::Committed(_) => Ok(Arc::new(fresh)),
                // Another one was first: its key counts.
                Outcome::Conflict(_) => match store.get(&issuer_key()).await? {
                    Some(entry) => read_issuer(&entry.value).map(Arc::new),
                    None => Err(Error::internal("the signing key is gone")),
                },
            }
        });
        made.await.cloned()
    }

    /// The signer with this id, if it is in memory or stored; without it no token of ours can exist.
    pub(crate) fn issuer_now(&self, id: &str) -> Option<Arc<Signer>> {
        let signer = match self.issuer.get() {
            Some(signer) => signer.clone(),
            None => {
                let read = Arc::new(read_issuer(self.stored.as_deref()?).ok()?);
                let _ = self.issuer.set(read.clone());
                read
            }
        };
        (signer.id() == id).then_some(signer)
    }
}

fn issuer_key() -> String {
    format!("{SYSTEM}signer")
}

/// The stored form: 40 digits of the id, then PKCS #8.
fn read_issuer(stored: &[u8]) -> Result<Signer> {
    let (id, pkcs8) =
        stored.split_at_checked(40).ok_or_else(|| Error::internal("the signing key is damaged"))?;
    Signer::from_pkcs8(String::from_utf8_lossy(id).into_owned(), pkcs8)
}

/// Makes a key off the async workers: it takes a tenth of a second.
async fn generate(id: String) -> Result<Signer> {
    tokio::task::spawn_blocking(move || Signer::generate(id)).await.map_err(Error::internal)?
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Iam {
    /// Makes the signer of identity tokens in the background, so that the first one need not wait for it.
    pub fn prepare(self: &Arc<Self>) {
        let iam = self.clone();
        tokio::spawn(async move {
            if let Err(error) = iam.issuer().await {
                tracing::warn!("cannot make the signing key: {error:?}");
            }
        });
    }

    /// The keys of an account, ours included.
    pub(crate) fn keys_of(&self, unique_id: &str) -> Vec<KeyRecord> {
        let found = self.keys.range(&format!("{unique_id}/"), "", usize::MAX);
        found.into_iter().map(|(_, key)| key.value.clone()).collect()
    }

    /// One key of an account.
    ///
    /// # Errors
    /// `NOT_FOUND`.
    pub(crate) fn key_of(&self, account: &AccountRecord, id: &str) -> Result<KeyRecord> {
        let found = self.keys.get(&format!("{}/{id}", account.unique_id));
        found
            .map(|key| key.value.clone())
            .ok_or_else(|| Error::not_found(format!("Service account key {id} does not exist.")))
    }

    /// Makes a key for a user: the record that stays, and the file that is shown once.
    ///
    /// # Errors
    /// `FAILED_PRECONDITION` when the account has ten already.
    pub(crate) async fn create_key(&self, account: &AccountRecord) -> Result<(KeyRecord, Value)> {
        self.check_room(account)?;
        let signer = generate(hex(&crate::random::<20>()?)).await?;
        let record = self.key_record(account, &signer, KeyOrigin::User, NEVER)?;
        self.put_key(&record).await?;
        let file = key_file(account, signer.id(), &pem("PRIVATE KEY", &signer.to_pkcs8()?));
        Ok((record, file))
    }

    /// Takes in the public half of a key that was made elsewhere, as a certificate in PEM.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for what is no certificate of an RSA key, or is over; `FAILED_PRECONDITION` when the account
    /// has ten keys already; `ALREADY_EXISTS`.
    pub(crate) async fn upload_key(&self, account: &AccountRecord, pem: &[u8]) -> Result<KeyRecord> {
        let wrong = |why: &str| Error::bad_field("public_key_data", why);
        let read = Certificate::from_pem(pem);
        let read = read.ok_or_else(|| {
            wrong("Invalid public key: it must be an X.509 certificate of an RSA key, in PEM.")
        })?;
        let bits = read.public.modulus.len() * 8;
        if !(2048..=4096).contains(&bits) {
            return Err(wrong("Invalid public key: an RSA key must have 2048 to 4096 bits."));
        }
        if read.before <= self.clock.unix() {
            return Err(wrong("Invalid public key: the certificate is expired."));
        }
        self.check_room(account)?;
        let id = hex(&digest(&SHA256, &read.der).as_ref()[..20]);
        let record = KeyRecord {
            id,
            unique_id: account.unique_id.clone(),
            modulus: read.public.modulus,
            exponent: read.public.exponent,
            private: Vec::new(),
            origin: KeyOrigin::Uploaded as i32,
            after: read.after,
            before: read.before.min(NEVER),
            disabled: false,
            certificate: crate::jwt::pem("CERTIFICATE", &read.der),
        };
        let key = self.key_name(&record.unique_id, &record.id);
        match self.keys.commit(Txn::new().check(&key, 0).put(&key, record.to_stored())).await? {
            Outcome::Committed(_) => Ok(record),
            Outcome::Conflict(_) => Err(Error::already_exists("The public key was uploaded already.")),
        }
    }

    /// Users may have ten keys for an account, wherever they were made.
    fn check_room(&self, account: &AccountRecord) -> Result<()> {
        let keys = self.keys_of(&account.unique_id).into_iter();
        match keys.filter(|key| key.origin != KeyOrigin::System as i32).count() {
            0..MOST => Ok(()),
            _ => Err(Error::precondition("Precondition check failed.")),
        }
    }

    /// Deletes a key of a user's.
    ///
    /// # Errors
    /// `NOT_FOUND`, `FAILED_PRECONDITION` for a key of ours.
    pub(crate) async fn delete_key(&self, account: &AccountRecord, id: &str) -> Result<()> {
        if self.key_of(account, id)?.origin == KeyOrigin::System as i32 {
            return Err(Error::precondition("Cannot delete a Google-managed service account key."));
        }
        self.commit_keys(Txn::new().delete(self.key_name(&account.unique_id, id))).await
    }

    /// Switches a key on or off.
    ///
    /// # Errors
    /// `NOT_FOUND`.
    pub(crate) async fn switch_key(&self, account: &AccountRecord, id: &str, disabled: bool) -> Result<()> {
        let record = KeyRecord { disabled, ..self.key_of(account, id)? };
        self.put_key(&record).await
    }

    /// The key that an account signs with, made when it first does.
    ///
    /// # Errors
    /// Those of the store.
    pub(crate) async fn signer_of(&self, account: &AccountRecord) -> Result<Arc<Signer>> {
        let now = self.clock.unix();
        let is_ours =
            |key: &KeyRecord| key.origin == KeyOrigin::System as i32 && now < key.before && !key.disabled;
        match self.keys_of(&account.unique_id).into_iter().find(is_ours) {
            Some(key) => self.stored_signer(key),
            None => {
                let signer = generate(hex(&crate::random::<20>()?)).await?;
                let mut record =
                    self.key_record(account, &signer, KeyOrigin::System, now + SYSTEM_KEY_LIFE)?;
                record.private = signer.to_pkcs8()?;
                self.put_key(&record).await?;
                Ok(Arc::new(signer))
            }
        }
    }

    fn stored_signer(&self, key: KeyRecord) -> Result<Arc<Signer>> {
        let mut known = self.signers.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(signer) = known.get(&key.id) {
            return Ok(signer.clone());
        }
        let signer = Arc::new(Signer::from_pkcs8(key.id.clone(), &key.private)?);
        known.insert(key.id, signer.clone());
        Ok(signer)
    }

    fn key_record(
        &self,
        account: &AccountRecord,
        signer: &Signer,
        origin: KeyOrigin,
        before: u64,
    ) -> Result<KeyRecord> {
        let public = signer.public();
        Ok(KeyRecord {
            id: signer.id().to_owned(),
            unique_id: account.unique_id.clone(),
            modulus: public.modulus,
            exponent: public.exponent,
            private: Vec::new(),
            origin: origin as i32,
            after: self.clock.unix(),
            before,
            disabled: false,
            certificate: signer.certificate(&account.email)?,
        })
    }

    fn key_name(&self, unique_id: &str, id: &str) -> String {
        self.keys.key(&format!("{unique_id}/{id}"))
    }

    async fn put_key(&self, key: &KeyRecord) -> Result<()> {
        self.commit_keys(Txn::new().put(self.key_name(&key.unique_id, &key.id), key.to_stored())).await
    }

    async fn commit_keys(&self, txn: Txn) -> Result<()> {
        self.keys.commit(txn).await.map(drop)
    }
}

/// The file that client libraries read (`TYPE_GOOGLE_CREDENTIALS_FILE`).
fn key_file(account: &AccountRecord, id: &str, private: &str) -> Value {
    let email = account.email.replace('@', "%40");
    json!({
        "type": "service_account",
        "project_id": account.project,
        "private_key_id": id,
        "private_key": private,
        "client_email": account.email,
        "client_id": account.unique_id,
        "auth_uri": "https://accounts.google.com/o/oauth2/auth",
        "token_uri": "https://oauth2.googleapis.com/token",
        "auth_provider_x509_cert_url": "https://www.googleapis.com/oauth2/v1/certs",
        "client_x509_cert_url": format!("https://www.googleapis.com/robot/v1/metadata/x509/{email}"),
        "universe_domain": "googleapis.com",
    })
}
