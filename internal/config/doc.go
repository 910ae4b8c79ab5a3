// Package config reads the configuration.
//
// The invariant: Detach starts only with a configuration that it understood completely. An unknown
// key, a value out of range and a secret that others can read are errors, and each error names the
// key and the remedy.
//
// Every key has a default, except gateway.url and the reinject address of each proxy.
//
// The file is TOML. Every key can be overridden by an environment variable: DETACH_, then the table
// and the key in capitals, as in
//
//	DETACH_DATA_DIR=/srv/detach
//	DETACH_STORE_KIND=kubo
//	DETACH_GATEWAY_URL=https://files.example.org
//	DETACH_PROXY_0_REINJECT=127.0.0.1:10026    the first [[proxy]]; _1_ is the second
//	DETACH_PROXY_REINJECT=127.0.0.1:10026      the same, where there is only one [[proxy]] or none yet
//
// A [[proxy]] that only the environment names is added, so a container can be started with
// /dev/null as its file. The comments of the fields are the reference; docs/detach.toml says the
// same in a file to start from.
package config
