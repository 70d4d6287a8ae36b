//! `account-routes.*` and `account-route-by-namespace-label.*`.

use super::anchore::fits_in_header;
use super::key::{Boolean, Key, List, Section, Text};
use super::pattern::{self, Pattern, Subject};
use super::problem::{Problem, printable};
use super::reader::Reader;
use super::secret::{Credentials, read_source};
use super::values::route_path;

/// The keys that an account has in `account-routes`.
pub(super) const FIELDS: [&str; 5] = ["user", "user-file", "password", "password-file", "namespaces"];

const USER: Key<Text> = Key::new(
    "account-routes.<account>.user",
    Text::UNSET,
    "User that this account's reports are sent as. Without user and password the global ones are used; only one of \
     the two is an error.",
);

const USER_FILE: Key<Text> =
    Key::new("account-routes.<account>.user-file", Text::UNSET, "File that holds the user, instead of `user`.");

const PASSWORD: Key<Text> = Key::new("account-routes.<account>.password", Text::SECRET, "Password of that user.");

const PASSWORD_FILE: Key<Text> = Key::new(
    "account-routes.<account>.password-file",
    Text::UNSET,
    "File that holds the password, instead of `password`.",
);

const NAMESPACES: Key<List> = Key::new(
    "account-routes.<account>.namespaces",
    List::PLAIN,
    "Namespaces of this account: exact names, or regular expressions searched in the name (a DNS label is a name, \
     anything else an expression). A namespace that several accounts name is reported to each of them.",
);

const LABEL: Key<Text> = Key::new(
    "account-route-by-namespace-label.key",
    Text::UNSET,
    "Key of a label on namespaces whose value is the account, for namespaces that no route names.",
);

const DEFAULT_ACCOUNT: Key<Text> = Key::new(
    "account-route-by-namespace-label.default-account",
    Text::UNSET,
    "Account of namespaces that nothing routes, and for accounts that the server does not know. Unset, it is \
     `anchore.account`. Has an effect only where routes or a label key are configured.",
);

const IGNORE_MISSING: Key<Boolean> = Key::new(
    "account-route-by-namespace-label.ignore-namespace-missing-label",
    Boolean { default: false },
    "Leave namespaces without the label out, instead of sending them to the default account.",
)
.also(&["account-route-by-namespace-label.ignore-missing-label"]);

const ALLOWED: Key<List> = Key::new(
    "account-route-by-namespace-label.allowed-accounts",
    List::PLAIN,
    "Accounts that a label may name; empty allows any. Another value counts as missing, with a warning. Set it where \
     people who must not choose an account may label namespaces.",
);

/// Which account gets which namespace.
#[derive(Debug, Clone, Default)]
pub struct RoutingConfig {
    /// `account-routes`, ordered by account.
    pub routes: Vec<AccountRoute>,
    /// `account-route-by-namespace-label`, when its `key` is set.
    pub by_label: Option<LabelRouting>,
    /// The account of what nothing routes, and of the fallback for accounts unknown to the server:
    /// `account-route-by-namespace-label.default-account` when routing is configured and it is set, else
    /// `anchore.account`.
    pub default_account: String,
}

/// One entry of `account-routes`.
#[derive(Debug, Clone)]
pub struct AccountRoute {
    /// Name of the account, in the case it was written in.
    pub account: String,
    /// The route's own credentials; `None` uses the global ones.
    pub credentials: Option<Credentials>,
    /// Namespaces of this account.
    pub namespaces: Vec<Pattern>,
}

/// Routing by the value of a label on the namespace.
#[derive(Debug, Clone)]
pub struct LabelRouting {
    /// Key of the label.
    pub key: String,
    /// Leave namespaces without the label out instead of sending them to the default account.
    pub ignore_missing: bool,
    /// Accounts a label may name; empty means any. Another value counts as missing.
    pub allowed_accounts: Vec<String>,
}

pub(super) fn section() -> Section {
    Section {
        title: "Accounts",
        intro: "`account-routes` is a map from names of accounts to the keys below. Names of accounts keep their case. \
                In environment variables an account is written in capitals, with `_` for `.` and `-`; only accounts \
                that the file names can be changed that way. The order of accounts has no meaning.",
        rows: vec![
            USER.into(),
            USER_FILE.into(),
            PASSWORD.into(),
            PASSWORD_FILE.into(),
            NAMESPACES.into(),
            LABEL.into(),
            DEFAULT_ACCOUNT.into(),
            IGNORE_MISSING.into(),
            ALLOWED.into(),
        ],
    }
}

/// Reads both sections; `account` is `anchore.account`.
pub(super) fn read(reader: &mut Reader<'_>, account: &str) -> RoutingConfig {
    let routes: Vec<AccountRoute> = reader.accounts().into_iter().map(|name| read_route(reader, name)).collect();
    let key = reader.text(&LABEL);
    let configured = read_account_name(reader, &DEFAULT_ACCOUNT);
    let ignore_missing = reader.boolean(&IGNORE_MISSING);
    let allowed_accounts = reader.list(&ALLOWED).into_iter().map(|item| item.text).collect();
    let by_label = key.map(|key| LabelRouting { key, ignore_missing, allowed_accounts });
    let routing = !routes.is_empty() || by_label.is_some();
    let default_account = configured.filter(|_| routing).unwrap_or_else(|| account.to_owned());
    RoutingConfig { routes, by_label, default_account }
}

fn read_route(reader: &mut Reader<'_>, account: String) -> AccountRoute {
    let paths = FIELDS.map(|field| route_path(&account, field));
    let [user, user_file, password, password_file, namespaces] = &paths;
    if account.is_empty() || !fits_in_header(&account) {
        let key = printable(&format!("account-routes.{account}"));
        let problem = Problem::error(reader.account_origin(&account), &key, "is not the name of an account");
        reader.problems.push(problem.advise("Use visible ASCII characters"));
    }
    let user_key = Key { path: user, ..USER };
    let password_key = Key { path: password, ..PASSWORD };
    let user_source = read_source(reader, &user_key, &Key { path: user_file, ..USER_FILE });
    let password_source = read_source(reader, &password_key, &Key { path: password_file, ..PASSWORD_FILE });
    let credentials = match (user_source, password_source) {
        (Some(user), Some(password)) => Some(Credentials { user, password }),
        (None, None) => None,
        (user, _) => {
            let (missing, given) = if user.is_some() { (password_key, "a user") } else { (user_key, "a password") };
            let key = printable(missing.path);
            let what = format!("is missing, while the account has {given} of its own");
            let problem = Problem::error(reader.account_origin(&account), &key, what);
            reader.problems.push(problem.advise("Set both, or none to use the global ones"));
            None
        }
    };
    let namespaces = pattern::read(reader, &Key { path: namespaces, ..NAMESPACES }, Subject::Namespaces);
    AccountRoute { account, credentials, namespaces }
}

fn read_account_name(reader: &mut Reader<'_>, key: &Key<Text>) -> Option<String> {
    let account = reader.text(key)?;
    if !fits_in_header(&account) {
        reader.error(key, "holds characters that no account name has", "Use visible ASCII characters");
    }
    Some(account)
}
