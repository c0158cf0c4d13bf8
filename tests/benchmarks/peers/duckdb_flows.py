"""DuckDB, whose results are the reference: python -m tests.benchmarks.peers.duckdb_flows tpch_q1|q3|q6 DATA SCALE."""

import duckdb

from tests.benchmarks import flow_work as work

QUERIES = {
    "tpch_q1": """
        SELECT l_returnflag, l_linestatus, sum(l_quantity), sum(l_extendedprice),
            sum(l_extendedprice * (1 - l_discount)), sum(l_extendedprice * (1 - l_discount) * (1 + l_tax)),
            avg(l_quantity), avg(l_extendedprice), avg(l_discount), count(*)
        FROM '{data}/lineitem.parquet' WHERE l_shipdate <= DATE '1998-09-02'
        GROUP BY ALL ORDER BY l_returnflag, l_linestatus""",
    "tpch_q3": """
        SELECT l_orderkey, sum(l_extendedprice * (1 - l_discount)) AS revenue, o_shippriority
        FROM '{data}/customer.parquet', '{data}/orders.parquet', '{data}/lineitem.parquet'
        WHERE c_mktsegment = 'BUILDING' AND c_custkey = o_custkey AND l_orderkey = o_orderkey
            AND o_orderdate < DATE '1995-03-15' AND l_shipdate > DATE '1995-03-15'
        GROUP BY l_orderkey, o_orderdate, o_shippriority ORDER BY revenue DESC, o_orderdate LIMIT 10""",
    "tpch_q6": """
        SELECT sum(l_extendedprice * l_discount) FROM '{data}/lineitem.parquet'
        WHERE l_shipdate >= DATE '1994-01-01' AND l_shipdate < DATE '1995-01-01'
            AND l_discount BETWEEN 0.05 AND 0.07 AND l_quantity < 24""",
}


def run(workload, data):
    found = duckdb.sql(QUERIES[workload].format(data=data / "tpch")).fetchall()
    plain = [[value if isinstance(value, (str, int)) else float(value) for value in row] for row in found]
    return sorted(plain, key=lambda row: row[:2])


if __name__ == "__main__":
    workload, data, _ = work.arguments()
    work.contend((lambda: duckdb.execute("SET threads = 2"), lambda: run(workload, data)))
