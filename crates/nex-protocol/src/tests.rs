//! The wire, held to files: what is written and read, and the schemas of it.

mod files;
mod golden;
mod messages;
mod samples;
mod schema;
mod subjects;
