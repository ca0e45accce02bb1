//! Connections, apps, sources and plugins: how they get their secrets and other ones, and how they end.

pub(crate) mod add;
pub(crate) mod app_check;
pub(crate) mod apps;
pub(crate) mod candidate;
pub(crate) mod connect;
pub(crate) mod draft;
pub(crate) mod plugins;
pub(crate) mod rotate;
pub(crate) mod sources;
pub(crate) mod stored_content;
