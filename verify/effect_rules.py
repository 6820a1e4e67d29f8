"""What must be true of the jobs of the flow `queue`, and of their effects, in SQL of our own."""

_PAYLOAD = "coalesce(payload->>'slot_id', payload->>'subject_id', payload->>'page_id')"

#: (rule, query of what breaks it), at any moment between two points.
EFFECT_RULES = (
    (
        "a completed job has not exactly one effect",
        f"SELECT j.job_type, {_PAYLOAD}, count(e.key) FROM job_queue j"
        " LEFT JOIN verify_effect e ON e.job = j.id AND e.key NOT LIKE 'failed:%'"
        " WHERE j.status = 'completed' GROUP BY j.id HAVING count(e.key) <> 1",
    ),
    (
        "a job without completion has an effect",
        f"SELECT j.job_type, {_PAYLOAD}, j.status FROM job_queue j JOIN verify_effect e"
        " ON e.job = j.id AND e.key NOT LIKE 'failed:%' WHERE j.status <> 'completed'",
    ),
    (
        "an effect has no job",
        "SELECT e.key FROM verify_effect e LEFT JOIN job_queue j ON j.id = e.job"
        " WHERE j.id IS NULL",
    ),
    (
        "a failure was not told exactly once",
        f"SELECT j.job_type, {_PAYLOAD} FROM job_queue j CROSS JOIN LATERAL ("
        " SELECT count(*) AS told FROM verify_effect e WHERE e.job = j.id"
        " AND e.key LIKE 'failed:%') t CROSS JOIN LATERAL (SELECT count(*) AS requeued"
        " FROM job_action a WHERE a.job_id = j.id AND a.action = 'requeued') r"
        " WHERE j.status = 'failed' AND j.job_type = 'JobsPrune' AND t.told <> r.requeued + 1",
    ),
    (
        "a job that should work ended otherwise",
        f"SELECT j.job_type, {_PAYLOAD}, j.last_error FROM job_queue j WHERE j.status = 'failed'"
        f" AND split_part({_PAYLOAD}, ':', 1) IN ('well', 'flaky', 'outage')",
    ),
    (
        "a hopeless job was completed",
        f"SELECT j.job_type, {_PAYLOAD} FROM job_queue j WHERE j.status = 'completed'"
        f" AND split_part({_PAYLOAD}, ':', 1) IN ('reject', 'poison', 'broken', 'never')",
    ),
    (
        "a pipeline lost a step",
        "SELECT j.job_type, j.id FROM job_queue j WHERE j.status = 'completed'"
        " AND j.next_steps IS NOT NULL AND NOT EXISTS ("
        " SELECT FROM job_queue n WHERE n.parent = j.id)",
    ),
    (
        "a step ran before the one before it",
        "SELECT j.job_type, j.id FROM job_queue j JOIN job_queue p ON p.id = j.parent"
        " WHERE p.status <> 'completed'",
    ),
    (
        "one key made two jobs",
        "SELECT job_type, payload->>'slot_id', count(*) FROM job_queue"
        " WHERE job_type = 'JobsPrune' GROUP BY 1, 2 HAVING count(*) > 1",
    ),
    (
        "a cancelled job ran",
        "SELECT j.job_type, j.status FROM job_queue j JOIN job_action a ON a.job_id = j.id"
        " WHERE a.action = 'cancelled' AND j.status <> 'cancelled' AND NOT EXISTS ("
        " SELECT FROM job_action n WHERE n.job_id = j.id AND n.id > a.id)",
    ),
    (
        "a money job was failed by deaths",
        "SELECT job_type, deaths FROM job_queue WHERE status = 'failed' AND deaths > 0"
        " AND job_type IN ('MaturityTokenBurn', 'MaturityPLTTransfer', 'MaturityRecord')",
    ),
)  # fmt: skip
