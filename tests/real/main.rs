//! Real programs, as their users start them, behind the gateway: the origin accepts only the live
//! credential, and the program sees none of it. `tests/run` installs what is driven here; a program
//! that is missing is a failure.

#[path = "../it/support/mod.rs"]
mod support;

mod certificate;
mod chromium;
mod command_line;
mod git;
mod go;
mod image;
mod java;
mod newcomers;
mod node;
mod python;
mod run;
mod shells;
mod stage;
