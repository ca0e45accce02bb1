//! Credentials that Keyward makes of the owner's fields: sessions by a login that is data, answers to challenges, tokens and
//! requests that are signed.

mod certificates;
mod digest;
mod logins;
mod signatures;
mod tokens;
