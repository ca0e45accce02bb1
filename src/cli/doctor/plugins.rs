//! Checks plugins: warns about slots without a working connection, except optional slots that were
//! left empty.

use super::installation::CheckedInstallation;
use super::report::DoctorReport;
use crate::cli::client::Client;
use crate::cli::plugin;
use crate::cli::settings::Global;
use keyward_model::PluginView;
use keyward_state::directory::PluginState;

const PLUGINS: &str = "plugins";

pub(super) async fn check(
    install: &CheckedInstallation<'_>,
    client: &Client,
    report: &mut DoctorReport,
) {
    match client.list::<PluginView>("/api/v1/plugins", &[]).await {
        Ok(all) => check_all(&all.items, install.global, report),
        Err(failure) => {
            let hint = failure.advice().unwrap_or("see the gateway's log");
            report.fail(PLUGINS, failure.message(), hint);
        }
    }
}

fn check_all(plugins: &[PluginView], global: &Global, report: &mut DoctorReport) {
    let before = report.checks.len();
    for plugin in plugins {
        let (name, agent) = (&plugin.name, &plugin.agent);
        let lacks = plugin.missing.iter().find(|it| it.required || it.connection.is_some());
        let hint = match (plugin.state, lacks) {
            (PluginState::Paused, _) => plugin::paused_remedy(name),
            (_, Some(lacks)) => lacks.hint.clone(),
            (_, None) => continue,
        };
        let state = plugin::state::state_of(plugin);
        let message = format!("plugin {name} of agent {agent} is {state}");
        report.warn(PLUGINS, message, global.remedy(&hint));
    }
    if report.checks.len() == before && !plugins.is_empty() {
        let count = plugins.len();
        report.ok(PLUGINS, format!("every plugin has the connections that it needs ({count})"));
    }
}
