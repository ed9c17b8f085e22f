//! `guest-get-host-name`, `guest-get-users`, `guest-get-timezone`, `guest-get-osinfo`.

mod get_host_name;
mod get_osinfo;
mod get_timezone;
mod get_users;
