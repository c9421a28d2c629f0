package main

const (
	stat  = "stat"
	named = "named" // a stat that shows its legend in place of its value
	graph = "timeseries"

	// The units of Grafana, and legends.
	plain   = "none"
	short   = "short"
	byNode  = "{{instance}}"
	byName  = "{{name}}"
	byCause = "{{reason}}"

	green = "green"

	network = `{job=~"$job"}`
	node    = `{job=~"$job",instance=~"$instance"}`
)

// below is red below a value, and green from it on; above is green below it, and red from it on.
func below(v float64) []step { return []step{{"red", nil}, {green, new(v)}} }

func above(v float64) []step { return []step{{green, nil}, {"red", new(v)}} }

func labels(set, more string) string { return set[:len(set)-1] + "," + more + "}" }

// quantiles shows the median and the 99th percentile of a histogram.
func quantiles(histogram, set string) []query {
	of := "sum by (le) (rate(" + histogram + "_bucket" + set + "[$__rate_interval])))"
	return []query{{"histogram_quantile(0.5, " + of, "median"}, {"histogram_quantile(0.99, " + of, "99 %"}}
}

func one(expr, legend string) []query { return []query{{expr, legend}} }

func rate(counter, set, by, legend string) query {
	return query{"sum by (" + by + ") (rate(" + counter + set + "[$__rate_interval]))", legend}
}

var jobs = variable{"job", "Network", "label_values(diseq_height, job)"}

var dashboards = []dashboard{networkDashboard, nodeDashboard, operatorDashboard}

var networkDashboard = dashboard{
	name: "network", title: "DISEQ / Network", about: "A network of validators, as all of its nodes see it.", variables: []variable{jobs},
	rows: []row{
		{"Now", []panel{
			{"Height", "The last final height.", stat, plain, one("max(diseq_height"+network+")", ""), nil},
			{"Since the last block", "By the clock of Prometheus. An idle network makes no blocks.", stat, "s",
				one("time() - max(diseq_block_timestamp_seconds"+network+")", ""), nil},
			{"Messages that wait", "Of the fullest pool.", stat, short, one("max(diseq_mempool_messages"+network+")", ""), nil},
			{"Validators", "Of the set in force.", stat, plain, one("max(diseq_validators"+network+")", ""), nil},
			{"Threshold", "How many validators must sign a block.", stat, plain, one("max(diseq_threshold"+network+")", ""), nil},
			{"May still fail", "Validators that may go down now, with blocks made all the same. Below 0 nothing becomes final.", stat, plain,
				one("max(diseq_headroom"+network+")", ""), []step{{"red", nil}, {"orange", new(float64(0))}, {green, new(float64(1))}}},
		}},
		{"Blocks", []panel{
			{"Final messages", "A second, as each node sees it.", graph, short,
				[]query{rate("diseq_final_messages_total", network, "instance", byNode)}, nil},
			{"Time to finality", "From the timestamp of a block until it is final on a node.", graph, "s",
				quantiles("diseq_finality_seconds", network), nil},
			{"Height", "Lines that part: a node is behind.", graph, plain, one("diseq_height"+network, byNode), nil},
		}},
		{"Validators", []panel{
			{"Validators heard, above the threshold", "As each node hears them. With 0 the next failure stops the chain.", graph, plain,
				one("diseq_headroom"+network, byNode), nil},
			{"Links to each validator", "How many nodes reach it.", graph, plain,
				one("sum by (peer) (diseq_peer_link_up"+network+")", "{{peer}}"), nil},
			{"Validators that may vote", "Those of the set, without those that rejoin.", graph, plain,
				[]query{{"sum(diseq_may_vote" + network + ")", "may vote"}, {"max(diseq_validators" + network + ")", "of the set"}}, nil},
			{"Rounds", "Above 0: leaders are missing, or the network is slow.", graph, plain,
				one("max by (instance) (diseq_round"+network+")", byNode), nil},
		}},
		{"Messages", []panel{
			{"Accepted", "Messages a second that clients submitted, by node.", graph, short,
				[]query{rate("diseq_mempool_accepted_messages_total", network, "instance", byNode)}, nil},
			{"Refused", "Requests of clients a second, by reason.", graph, short,
				[]query{rate("diseq_http_rejected_total", network, "reason", byCause)}, nil},
			{"Time until enough peers have a batch", "Before that the node does not answer 202.", graph, "s",
				quantiles("diseq_mempool_acknowledge_seconds", network), nil},
		}},
		{"Trouble", []panel{
			{"Votes withheld", "From valid blocks in five minutes, by reason.", graph, short,
				one("sum by (reason) (increase(diseq_votes_withheld_total"+network+"[5m]))", byCause), nil},
			{"Reveals missed", "Of the beacon in an hour, by validator.", graph, short,
				one("max by (validator) (increase(diseq_vrf_commitments_total"+labels(network, `result="missed"`)+"[1h]))", "{{validator}}"),
				nil},
			{"Evidence", "Pieces that nodes found in a day, by rule.", graph, short,
				one("sum by (rule) (increase(diseq_evidence_total"+network+"[1d]))", "{{rule}}"), nil},
			{"Generation of the set", "It rises with each change of the validators.", graph, plain,
				[]query{
					{"max(diseq_set_generation" + network + ")", "in force"}, {"max(diseq_set_change_pending" + network + ")", "changes pending"},
				}, nil},
		}},
	},
}

var nodeDashboard = dashboard{
	name: "node", title: "DISEQ / Node", about: "One node of a network.",
	variables: []variable{jobs, {"instance", "Node", `label_values(diseq_height{job=~"$job"}, instance)`}},
	rows: []row{
		{"Now", []panel{
			{"Node", "Its name, chain and version.", named, plain,
				one("diseq_node_info"+node, "{{name}} of {{chain_id}}, {{version}}"), nil},
			{"Height", "The last final height.", stat, plain, one("diseq_height"+node, byNode), nil},
			{"Behind", "Heights behind the highest node of the network.", stat, plain,
				one("max by (job) (diseq_height"+network+") - on (job) group_right () diseq_height"+node, byNode), above(10)},
			{"May vote", "1 for a validator that votes.", stat, plain, one("diseq_may_vote"+node, byNode), below(1)},
			{"Free disk", "Below 512 MiB a validator takes no messages.", stat, "bytes",
				[]query{{"diseq_storage_free_bytes" + node, byNode}},
				[]step{{"red", nil}, {"orange", new(float64(1 << 29))}, {green, new(float64(1 << 31))}}},
		}},
		{"Clients", []panel{
			{"Requests", "A second, by route.", graph, "reqps",
				[]query{rate("diseq_http_requests_total", node, "route", "{{route}}")}, nil},
			{"Time to answer", "A stream lasts as long as its reader.", graph, "s",
				one(`histogram_quantile(0.99, sum by (le, route) (rate(diseq_http_request_duration_seconds_bucket`+
					labels(node, `route!="GET /v1/stream"`)+`[$__rate_interval])))`, "99 % of {{route}}"), nil},
			{"Refused", "Requests a second, by reason.", graph, "reqps",
				[]query{rate("diseq_http_rejected_total", node, "reason", byCause)}, nil},
			{"Streams", "Open streams of blocks.", graph, plain, one("diseq_http_streams"+node, byNode), nil},
		}},
		{"Pool", []panel{
			{"Messages that wait", "Of all authors.", graph, short, one("diseq_mempool_messages"+node, byNode), nil},
			{"Bytes that wait", "Of all authors.", graph, "bytes", one("diseq_mempool_bytes"+node, byNode), nil},
			{"Messages", "A second, by where they come from.", graph, short, []query{
				rate("diseq_mempool_accepted_messages_total", node, "job", "from clients"),
				rate("diseq_mempool_received_messages_total", node, "job", "from peers"),
				rate("diseq_final_messages_total", node, "job", "final"),
			}, nil},
			{"Not on enough disks in time", "Batches in five minutes, answered with 202 all the same.", graph, short,
				one("increase(diseq_mempool_unacknowledged_total"+node+"[5m])", byNode), nil},
		}},
		{"Chain", []panel{
			{"Time to finality", "From the timestamp of a block until it is final here.", graph, "s",
				quantiles("diseq_finality_seconds", node), nil},
			{"State behind the blocks", "In heights. From 64 on the node is not ready.", graph, plain,
				one("diseq_height"+node+" - diseq_state_height"+node, byNode), nil},
			{"Transactions of blocks.db", "With their fsync.", graph, "s", quantiles("diseq_store_transaction_seconds", node), nil},
			{"Blocks caught up", "A second, fetched from peers.", graph, short,
				[]query{rate("diseq_caught_up_blocks_total", node, "instance", byNode)}, nil},
		}},
		{"Peers", []panel{
			{"Links", "1 while this node can send to the peer.", graph, plain, one("diseq_peer_link_up"+node, "{{peer}}"), nil},
			{"Traffic", "Bytes a second, by direction and kind.", graph, "Bps",
				[]query{rate("diseq_peer_frame_bytes_total", node, "direction, kind", "{{direction}} {{kind}}")}, nil},
			{"Peers behind", "Heights that a peer reports, below this node's.", graph, plain,
				one("diseq_height"+node+" - on (job, instance) group_right () diseq_peer_final_height"+node, "{{peer}}"), nil},
			{"Refused", "Connections and messages of peers in five minutes, by reason.", graph, short,
				one("sum by (reason) (increase(diseq_peer_rejected_total"+node+"[5m]))", byCause), nil},
		}},
		{"Process", []panel{
			{"Processors", "", graph, plain, one("rate(process_cpu_seconds_total"+node+"[$__rate_interval])", byNode), nil},
			{"Memory", "", graph, "bytes", []query{
				{"process_resident_memory_bytes" + node, "resident"}, {"go_memstats_heap_inuse_bytes" + node, "heap"}}, nil},
			{"Free disk", "", graph, "bytes", one("diseq_storage_free_bytes"+node, byNode), nil},
			{"Damage, writes that found no room", "Since the node started.", graph, short, []query{
				{"sum by (what) (diseq_damage_total" + node + ")", "damaged {{what}}"}, {"diseq_disk_full_total" + node, "no room"}}, nil},
		}},
	},
}

// reconciles are those of the operator's controller.
const reconciles = `{controller="diseqnetwork"}[$__rate_interval]`

const networks = `{namespace=~"$namespace",name=~"$name"}`

var operatorDashboard = dashboard{
	name: "operator", title: "DISEQ / Operator", about: "The operator, and the networks that it runs.",
	variables: []variable{
		{"namespace", "Namespace", "label_values(diseq_network_height, namespace)"},
		{"name", "Network", `label_values(diseq_network_height{namespace=~"$namespace"}, name)`},
	},
	rows: []row{
		{"Now", []panel{
			{"Available", "1 while messages become final.", stat, plain, one("diseq_network_available"+networks, byName), below(1)},
			{"Height", "The last final height.", stat, plain, one("diseq_network_height"+networks, byName), nil},
			{"May still fail", "Validators that may go down now, with blocks made all the same.", stat, plain,
				one("diseq_network_disruptions_allowed"+networks, byName), []step{{"orange", nil}, {green, new(float64(1))}}},
			{"Operators that work", "One holds the lease, the others wait.", stat, plain,
				one(`sum(leader_election_master_status{name="diseq-operator"})`, ""), below(1)},
		}},
		{"Networks", []panel{
			{"Validators ready", "", graph, plain, []query{
				{"diseq_network_ready_validators" + networks, "ready of {{name}}"}, {"diseq_network_validators" + networks, "all of {{name}}"},
				{"diseq_network_threshold" + networks, "threshold of {{name}}"}}, nil},
			{"Generation of the set", "It rises with each change of the validators.", graph, plain, []query{
				{"diseq_network_set_generation" + networks, byName}, {"diseq_network_membership_changing" + networks, "{{name}} changes"}}, nil},
			{"Since the last final block", "An idle network makes none.", graph, "s",
				one("time() - (diseq_network_finalized_timestamp_seconds"+networks+" > 0)", byName), nil},
		}},
		{"Work of the operator", []panel{
			{"Pods restarted and replaced", "In ten minutes.", graph, short, []query{
				{"increase(diseq_network_pod_restarts_total" + networks + "[10m])", "restarts of {{name}}"},
				{"increase(diseq_network_pod_replacements_total" + networks + "[10m])", "replacements of {{name}}"}}, nil},
			{"Sets declared, validators stopped", "In an hour.", graph, short, []query{
				{"increase(diseq_network_targets_total" + networks + "[1h])", "sets of {{name}}"},
				{"increase(diseq_network_validators_stopped_total" + networks + "[1h])", "stopped of {{name}}"}}, nil},
			{"Writes to the API server", "A second.", graph, "reqps",
				one("rate(diseq_network_writes_total"+networks+"[$__rate_interval])", byName), nil},
		}},
		{"The operator", []panel{
			{"Reconciles", "A second, by result.", graph, short,
				one(`sum by (result) (rate(controller_runtime_reconcile_total`+reconciles+`))`, "{{result}}"), nil},
			{"Reconciles that failed", "In ten minutes.", graph, short,
				one(`sum(increase(controller_runtime_reconcile_errors_total{controller="diseqnetwork"}[10m]))`, "failed"), nil},
			{"Time of a reconcile", "", graph, "s", one(
				`histogram_quantile(0.99, sum by (le) (rate(controller_runtime_reconcile_time_seconds_bucket`+reconciles+`)))`,
				"99 %"), nil},
			{"Networks that wait", "In the queue of the controller.", graph, short,
				one(`sum(workqueue_depth{name="diseqnetwork"})`, "waiting"), nil},
		}},
	},
}
