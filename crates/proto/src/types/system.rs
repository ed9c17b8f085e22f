//! `guest-get-host-name`, `guest-get-users`, `guest-get-timezone`, `guest-get-osinfo`.

use serde::{Deserialize, Serialize};

use crate::command::{Command, Empty};

/// Tells the host name, as the kernel has it.
#[derive(Debug)]
pub struct GuestGetHostName;

impl Command for GuestGetHostName {
    const NAME: &'static str = "guest-get-host-name";
    const SINCE: &'static str = "2.10";
    type Args<'a> = Empty;
    type Ret = GuestHostName;
}

/// What `guest-get-host-name` returns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct GuestHostName {
    /// The name; not resolved to a fully qualified one.
    pub host_name: String,
}

/// Lists who is logged in.
#[derive(Debug)]
pub struct GuestGetUsers;

impl Command for GuestGetUsers {
    const NAME: &'static str = "guest-get-users";
    const SINCE: &'static str = "2.10";
    type Args<'a> = Empty;
    type Ret = Vec<GuestUser>;
}

/// One user, however many sessions there are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct GuestUser {
    /// When the oldest session began: seconds since 1970 with a fraction.
    pub login_time: f64,
    /// Name of the account.
    pub user: String,
    /// The domain of the account; Windows only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
}

/// Tells the time zone in force now.
#[derive(Debug)]
pub struct GuestGetTimezone;

impl Command for GuestGetTimezone {
    const NAME: &'static str = "guest-get-timezone";
    const SINCE: &'static str = "2.10";
    type Args<'a> = Empty;
    type Ret = GuestTimezone;
}

/// What `guest-get-timezone` returns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestTimezone {
    /// Its abbreviation, such as `CET`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// Seconds east of UTC, daylight saving included.
    pub offset: i64,
}

/// Tells which operating system runs, from uname(2) and os-release(5).
#[derive(Debug)]
pub struct GuestGetOsinfo;

impl Command for GuestGetOsinfo {
    const NAME: &'static str = "guest-get-osinfo";
    const SINCE: &'static str = "2.10";
    type Args<'a> = Empty;
    type Ret = GuestOsInfo;
}

/// What `guest-get-osinfo` returns. A member is absent when the system does not tell.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "named like the keys of os-release(5) and the members of struct utsname")]
pub struct GuestOsInfo {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel_release: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pretty_name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel_version: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant_id: Option<String>,
}
