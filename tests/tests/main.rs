//! End to end: a haar as people run it, and the clients that people use.
//!
//! | module | what belongs there |
//! | --- | --- |
//! | `admin` | gcloud on projects, the organization, accounts, roles |
//! | `capture` | programs that heed no proxy, under `haar exec --capture` |
//! | `cli` | the commands of `haar` itself, and what they say when something is wrong |
//! | `commands` | the lines that guides and pipelines have people type |
//! | `contract` | what Knative's and Google's container contracts promise, clause by clause |
//! | `credentials` | signing in, keys, federation, what accounts sign |
//! | `deploy` | from a folder to a URL, with a database, and what is refused |
//! | `gcloud` | gcloud, unmodified |
//! | `groups` | groups by gcloud: made, filled, searched, granted something |
//! | `iam` | conditions, custom roles, explanations, the audit log |
//! | `inside` | Google's libraries inside a container, with no option at all |
//! | `languages` | Google's libraries in five languages: the same calls end the same |
//! | `jobs` | jobs: run, retried, cancelled, interrupted |
//! | `least` | `haar iam least`: a service is left with what it uses |
//! | `logs` | what services and clients write, and finding it |
//! | `methods` | the page that names every method, its permission and its test |
//! | `orgpolicy` | organization policies: set, inherited, tried out, obeyed |
//! | `python` | Google's Python libraries, over gRPC and REST |
//! | `rest` | Google's REST, call by call, what no client above happens to use |
//! | `rollout` | a new revision by steps, and back |
//! | `run` | services: deployed, called, refused, killed |
//! | `secrets_rest` | regional secrets, customers' keys, rotation, expiry |
//! | `soak` | deploys, splits and kills under traffic: nothing is lost |
//! | `sql` | Cloud SQL: instances, databases, users, and their end |
//! | `terraform` | Terraform with Google's own provider |
//! | `workers` | worker pools, and services under names of people's own |
//! | `bad_input` | what a careless or hostile client sends |
//! | `survival` | kill -9 at any moment |

mod admin;
mod bad_input;
mod capture;
mod cli;
mod commands;
mod contract;
mod credentials;
mod deploy;
mod gcloud;
mod groups;
mod iam;
mod inside;
mod jobs;
mod languages;
mod least;
mod logs;
mod methods;
mod orgpolicy;
mod python;
mod rest;
mod rollout;
mod run;
mod secrets_rest;
mod soak;
mod sql;
mod survival;
mod terraform;
mod workers;
