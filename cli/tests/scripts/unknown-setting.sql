SET spark.sql.shuffle.partition = 4;
