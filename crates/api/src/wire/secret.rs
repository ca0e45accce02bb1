//! Secrets on their way in.

pub use keyward_model::{SecretFields, SecretText};
