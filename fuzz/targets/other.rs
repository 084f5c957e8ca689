//! Ingress, environments, errors and triggers.
#![no_main]

use nex_protocol::{
    EncryptedEnvironment, ErrorBody,
    function::Trigger,
    ingress::{IngressData, IngressMessage, WorkloadLocation},
};

nex_fuzz::messages![
    EncryptedEnvironment,
    ErrorBody,
    IngressData,
    IngressMessage,
    Trigger,
    WorkloadLocation,
];
