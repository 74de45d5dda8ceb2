//! Secret Manager: secrets, versions and their encrypted payloads.
