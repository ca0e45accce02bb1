//! `keyward audit query --by`: counts the matching records in groups. The gateway counts; a long log takes several
//! requests, whose parts are added here.

use super::filters::AuditFilters;
use super::filters::note_unknown;
use super::show::rule;
use crate::cli::client::Client;
use crate::cli::failure::Failure;
use crate::cli::output;
use crate::cli::settings::Global;
use crate::cli::terminal::table::{Table, TableLayout};
use keyward_api::wire::{AuditCounts, Counts, Group, Grouping};
use keyward_base::visible::visible;

/// Counts, and shows at most `limit` groups.
pub(super) async fn run(
    global: &Global,
    filters: &AuditFilters,
    by: Grouping,
    limit: usize,
) -> Result<(), Failure> {
    let client = Client::open_or_empty(global).await?;
    let (mut counts, mut after) = (Counts::default(), None);
    loop {
        let mut more = vec![("by", output::word(&by))];
        more.extend(after.take().map(|after| ("after", after)));
        let part: AuditCounts = client.get(&filters.path("/audit/counts", &more)).await?;
        counts.merge(&part.groups, part.other);
        after = part.next;
        if after.is_none() {
            break;
        }
    }
    let (mut groups, mut other) = counts.into_groups();
    let rest = groups.split_off(limit.min(groups.len()));
    other += rest.iter().map(|group| group.count).sum::<u64>();
    let counted = AuditCounts { by, groups, other, next: None };
    if counted.groups.is_empty() && !global.json {
        output::note("no such records");
        note_unknown(&client, filters).await;
        return Ok(());
    }
    output::show(global.json, &counted, |counted| table(counted, &output::layout(global)))
}

fn table(counted: &AuditCounts, layout: &TableLayout) -> String {
    let heading = output::word(&counted.by).to_uppercase();
    let mut table = Table::new(["COUNT", "LAST", &heading]);
    for Group { name, count, last } in &counted.groups {
        table.row([
            count.to_string().into(),
            (*last).into(),
            shown(counted.by, name.as_deref()).into(),
        ]);
    }
    let mut text = table.render("no such records", layout);
    if counted.other > 0 {
        text.push_str(&format!("{} more records in other groups\n", counted.other));
    }
    text
}

/// A group's name. Bindings keep their id: several may have refused.
fn shown(by: Grouping, name: Option<&str>) -> String {
    let name = match (by, name) {
        (_, None) => "-",
        (Grouping::Rule, Some(id)) if !id.starts_with("binding:") => rule(id),
        (_, Some(name)) => name,
    };
    visible(name).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(name: Option<&str>, count: u64) -> Group {
        let last = "2026-01-31T08:00:00.25Z".parse().unwrap();
        Group { name: name.map(str::to_owned), count, last }
    }

    #[test]
    fn a_host_name_of_a_group_cannot_control_the_terminal() {
        let text = shown(Grouping::Host, Some("\u{1b}[2Ja.test"));
        assert_eq!(text, "\\u{1b}[2Ja.test");
    }

    #[test]
    fn groups_are_shown_with_their_counts_and_the_count_of_records_in_other_groups() {
        let groups = vec![group(Some("pypi.org:8443"), 12), group(None, 3)];
        let counted = AuditCounts { by: Grouping::Host, groups, other: 7, next: None };
        insta::assert_snapshot!(table(&counted, &TableLayout::FULL), @r"
        COUNT   LAST                   HOST
        12      2026-01-31T08:00:00Z   pypi.org:8443
        3       2026-01-31T08:00:00Z   -
        7 more records in other groups
        ");
        let groups = vec![group(Some("file:no-deletes"), 2), group(Some("binding:con_1"), 1)];
        let counted = AuditCounts { by: Grouping::Rule, groups, other: 0, next: None };
        insta::assert_snapshot!(table(&counted, &TableLayout::FULL), @r"
        COUNT   LAST                   RULE
        2       2026-01-31T08:00:00Z   no-deletes
        1       2026-01-31T08:00:00Z   binding:con_1
        ");
    }
}
