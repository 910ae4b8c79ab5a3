// Package config reads what an administrator wrote, and refuses what cannot be meant.
//
// Detach starts with a configuration that was understood completely, or not at all: an unknown key, a value out of range and a secret
// that others can read are errors, and each of them names the key and the remedy. What is not written has a default; only
// gateway.url and the reinject address of each proxy must be given.
//
// The file is TOML. Every key can be overridden by an environment variable: DETACH_, then the table and the key in capitals, as in
//
//	DETACH_DATA_DIR=/srv/detach
//	DETACH_STORE_KIND=kubo
//	DETACH_GATEWAY_URL=https://files.example.org
//	DETACH_PROXY_0_REINJECT=127.0.0.1:10026    the first [[proxy]]; _1_ is the second
//	DETACH_PROXY_REINJECT=127.0.0.1:10026      the same, where there is only one [[proxy]] or none yet
//
// A [[proxy]] that only the environment names is added, so that a container needs no file but /dev/null.
// The comments of the fields are the reference; docs/detach.toml is the same as a file to start from.
package config
