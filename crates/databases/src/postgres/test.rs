//! Logs in with a connection and asks the server who it is.

use fallible_iterator::FallibleIterator;
use postgres_protocol::message::backend::DataRowBody;

use super::login::{LoggedIn, PostgresLogin};
use super::messages::{PostgresLoginError, ask};
use super::parameters::StartupParameters;
use crate::lists::lines;
use crate::login::{DatabaseFacts, rights, short};
use crate::refused::Refused;
use keyward_proxy::ServiceExchange;
use keyward_rules::policy::PermittedLogin;

/// One row with everything. Strings are compared and shown; nothing is written.
const QUESTION: &str = "SELECT current_setting('server_version'), current_user, \
    current_setting('transaction_read_only'), \
    (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user)::text";

/// Its rights, and those to write. Servers that only speak the protocol may not know all of it. `{EXTENSIONS}`: rows of
/// `extensions.tsv`.
const RIGHTS: &str = "SELECT concat_ws(', ', CASE WHEN rolcreaterole THEN 'create roles' END, \
    CASE WHEN rolcreatedb THEN 'create databases' END, CASE WHEN rolreplication THEN 'replicate' END, \
    CASE WHEN rolbypassrls THEN 'bypass row security' END, \
    (SELECT string_agg('use ' || g.rolname, ', ' ORDER BY g.rolname) FROM pg_catalog.pg_roles g \
    WHERE g.rolname LIKE 'pg\\_%' AND pg_has_role(r.oid, g.oid, 'MEMBER') \
    AND g.rolname NOT IN ('pg_database_owner', 'pg_read_all_data', 'pg_write_all_data')), \
    (SELECT string_agg(DISTINCT 'call ' || v.function || ' of ' || v.extension || ' (' || v.does || ')', ', ') \
    FROM (VALUES {EXTENSIONS}) AS v (extension, function, does) \
    JOIN pg_catalog.pg_extension e ON e.extname = v.extension \
    JOIN pg_catalog.pg_depend d ON d.refobjid = e.oid AND d.deptype = 'e' \
    AND d.refclassid = 'pg_catalog.pg_extension'::regclass AND d.classid = 'pg_catalog.pg_proc'::regclass \
    JOIN pg_catalog.pg_proc p ON p.oid = d.objid AND p.proname = v.function \
    WHERE has_function_privilege(p.oid, 'EXECUTE') AND has_schema_privilege(p.pronamespace, 'USAGE'))), \
    concat_ws(', ', (SELECT 'write to ' || count(*) || ' tables' FROM pg_catalog.pg_class c \
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'p', 'f', 'v') \
    AND n.nspname <> 'information_schema' AND n.nspname NOT LIKE 'pg\\_%' \
    AND has_table_privilege(c.oid, 'INSERT, UPDATE, DELETE, TRUNCATE') HAVING count(*) > 0), \
    (SELECT 'create in ' || count(*) || ' schemas' FROM pg_catalog.pg_namespace n \
    WHERE n.nspname NOT LIKE 'pg\\_%' AND has_schema_privilege(n.oid, 'CREATE') HAVING count(*) > 0)) \
    FROM pg_catalog.pg_roles r WHERE rolname = current_user";

/// The question for the rights.
fn rights_question() -> String {
    let row = |line: &str| format!("('{}')", line.split('\t').collect::<Vec<_>>().join("', '"));
    let rows: Vec<String> = lines(include_str!("extensions.tsv")).map(row).collect();
    RIGHTS.replace("{EXTENSIONS}", &rows.join(", "))
}

/// Logs in and asks.
///
/// # Errors
/// When the server opens no session, or does not answer.
pub async fn facts(
    exchange: &mut ServiceExchange,
    permitted: PermittedLogin,
) -> Result<DatabaseFacts, Refused> {
    let permit = permitted.permit().clone();
    let login = PostgresLogin::new(permitted, StartupParameters::of_test(&permit))?;
    exchange.set_role(login.role());
    let (mut upstream, LoggedIn { permit: at, start, .. }) = login.run(exchange).await?;
    let within = exchange.connect_timeout();
    let asked = async {
        let facts = ask(&mut upstream, QUESTION, facts_of).await?;
        let facts = facts.ok_or(PostgresLoginError::Protocol)?;
        Ok((facts, ask(&mut upstream, &rights_question(), rights_of).await?))
    };
    let answer = tokio::time::timeout(within, asked).await;
    let (facts, found) = answer.unwrap_or(Err(PostgresLoginError::Timeout))?;
    let [mut rights, writes] = found.filter(|_| !facts.superuser).unwrap_or_default();
    if DatabaseFacts::are_writes_beyond(permit.wanted().settings.as_deref()) {
        rights.extend(writes);
    }
    let server = permit.endpoint().one_of_several(&at.endpoint().target);
    Ok(DatabaseFacts { server, rights, weakness: start.weakness, ..facts })
}

fn rights_of(row: &DataRowBody) -> Option<[Vec<String>; 2]> {
    let mut ranges = row.ranges();
    let mut next = || {
        let range = ranges.next().ok()??;
        range.map(|range| rights(&row.buffer()[range]))
    };
    Some([next()?, next()?])
}

fn facts_of(row: &DataRowBody) -> Option<DatabaseFacts> {
    let mut ranges = row.ranges();
    let mut next = || {
        let range = ranges.next().ok()??;
        range.map(|range| short(&String::from_utf8_lossy(&row.buffer()[range])))
    };
    Some(DatabaseFacts {
        version: next()?,
        user: next()?,
        read_only: next()? == "on",
        superuser: next()? == "true",
        ..DatabaseFacts::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_of_the_extensions_is_a_row_of_three_plain_texts() {
        for line in lines(include_str!("extensions.tsv")) {
            let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | ' ' | '\t');
            assert!(line.split('\t').count() == 3 && line.chars().all(is_plain), "{line}");
        }
        let question = rights_question();
        assert!(question.contains("(VALUES ('") && !question.contains('{'), "{question}");
    }
}
