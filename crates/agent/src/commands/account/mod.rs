//! `guest-set-user-password`.

mod set_user_password;
