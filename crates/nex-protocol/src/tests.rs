//! The wire, held to files: what is written and read, and the schemas of it.

mod any;
mod files;
mod golden;
mod messages;
mod nulls;
mod properties;
mod samples;
mod schema;
mod subjects;
