//! Cloud SQL, told through its methods, with a real PostgreSQL where one is found.

mod instances;
mod world;
