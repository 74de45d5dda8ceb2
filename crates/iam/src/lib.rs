//! Who may do what: service accounts, roles, policies, tokens.
